/*
 * Exchanges what lies at names with links to a secret, FIFOs and directories, for ever, as fast as
 * the kernel does it: between any two looks at a name there is something else.
 *
 *     swaps SECRET NAME...
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int count, char **words)
{
    char other[4096];

    for (;;) {
        for (int number = 2; number < count; number++) {
            snprintf(other, sizeof other, "%s~", words[number]);
            switch (number % 3) {  /* where there is one, this does nothing */
            case 0: symlink(words[1], other); break;
            case 1: mkfifo(other, 0666); break;
            case 2: mkdir(other, 0777);
            }
            renameat2(AT_FDCWD, words[number], AT_FDCWD, other, RENAME_EXCHANGE);
            renameat2(AT_FDCWD, words[number], AT_FDCWD, other, RENAME_EXCHANGE);
        }
    }
}
