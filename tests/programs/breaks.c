/* Takes the place of a QEMU: says that it is one, and then breaks what it runs in. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int count, char **words)
{
    int number;

    if (!strcmp(words[count - 1], "help")) {
        puts("Supported machines are:\npc-i440fx-5.2        Standard PC (default)");
        return 0;
    }
    if (!strcmp(words[count - 1], "--version")) {
        puts("QEMU emulator version 9.9.9");
        return 0;
    }
#ifdef KILLS
    kill(-1, SIGKILL);
    pause();
#endif
#ifdef DEEP
    for (number = 0; number < 1500; number++)
        if (mkdir("deep", 0700) || chdir("deep"))
            return 2;
    pause();
#endif
#ifdef CLOSED
    for (number = 0; number < 3; number++)
        if (mkdir("closed", 0700) || chdir("closed"))
            return 2;
    chmod("/cell/closed/closed", 0);
    chmod("/cell/closed", 0);
#endif
    return 1;
}
