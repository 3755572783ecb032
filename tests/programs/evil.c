/* Takes the place of a QEMU. What it was allowed to do stands in the version that it prints. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static int forks(void)
{
    int number = 0;

    while (number < 2000) {
        pid_t child = fork();
        if (child < 0)
            break;
        if (child == 0) {
            pause();
            _exit(0);
        }
        number++;
    }
    return number;
}

int main(int count, char **words)
{
    if (count > 2 && !strcmp(words[count - 1], "help")) {
        puts("Supported machines are:\npc-i440fx-5.2        Standard PC (default)");
        return 0;
    }
#ifdef FLOOD
    for (;;)
        if (puts("QEMU emulator version 9.9.9, and again") < 0)
            return 1;
#endif
#ifdef HANG
    pause();
#endif
#ifdef VERSION
    puts("QEMU emulator version " VERSION);
    return 0;
#endif
    printf("QEMU emulator version 9.%d.%d\n", (int)getuid(), forks());
    return 0;
}
