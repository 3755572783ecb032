/* Makes system calls that no QEMU needs, and names those that were not refused. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Refused is EPERM, or ENOSYS, or ENOSPC where the namespace has room for none. */
#define TRY(name, ...) \
    do { \
        errno = 0; \
        if (syscall(SYS_##name, ##__VA_ARGS__) >= 0 || \
            (errno != EPERM && errno != ENOSYS && errno != ENOSPC)) \
            printf("%s %d\n", #name, errno); \
    } while (0)

int main(void)
{
    TRY(unshare, CLONE_NEWUSER);
    TRY(unshare, CLONE_NEWNS);
    TRY(clone, CLONE_NEWUSER | 17, 0, 0, 0, 0);
    TRY(setns, 0, 0);
    TRY(mount, "none", "/tmp", "tmpfs", 0, 0);
    TRY(umount2, "/tmp", 0);
    TRY(keyctl, 0, 0, 0, 0, 0);
    TRY(add_key, "user", "x", "y", 1, -3);
    TRY(bpf, 0, 0, 0);
    TRY(perf_event_open, 0, 0, -1, -1, 0);
    TRY(userfaultfd, 0);
    TRY(init_module, "", 0, "");
    TRY(kexec_load, 0, 0, 0, 0);
    TRY(open_by_handle_at, 0, 0, 0);
    TRY(shmget, 4711, 4096, 01600);
    TRY(semget, 4711, 1, 01600);
    TRY(msgget, 4711, 01600);
    TRY(mq_open, "left", 0102, 0600, 0);
#ifdef BUBBLEWRAP
    TRY(memfd_create, "x", 0);
    TRY(memfd_secret, 0);
    TRY(fcntl, open("/cell/leased", O_RDONLY | O_CREAT, 0600), F_SETLEASE, F_WRLCK);
#endif
    TRY(sethostname, "x", 1);
    TRY(settimeofday, 0, 0);
    printf("done\n");
    return 0;
}
