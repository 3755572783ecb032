/* Tries to get hold of process 1 of its namespace, and says what it could do. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <unistd.h>

static void try_file(const char *path, int flags)
{
    if (open(path, flags) >= 0)
        printf("opened %s\n", path);
}

int main(void)
{
    char byte;
    struct iovec here = {&byte, 1}, there = {(void *)0x400000, 1};

    if (!ptrace(PTRACE_SEIZE, 1, 0, 0))
        printf("seized\n");
    if (!ptrace(PTRACE_ATTACH, 1, 0, 0))
        printf("attached\n");
    if (process_vm_readv(1, &here, 1, &there, 1, 0) > 0)
        printf("read its memory\n");
    try_file("/proc/1/mem", O_RDWR);
    try_file("/proc/1/exe", O_RDONLY);
    try_file("/proc/1/fd/0", O_RDWR);
    try_file("/proc/1/fd/1", O_WRONLY);
    kill(1, SIGSTOP);
    kill(1, SIGKILL);
    printf("done\n");
    return 0;
}
