/* Locks all that it is given, and says how many it could. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

int main(int count, char **words)
{
    int locked = 0;

    for (int number = 1; number < count; number++)
        locked += !flock(open(words[number], O_RDONLY), LOCK_EX | LOCK_NB);
    printf("locked %d\n", locked);
    fflush(stdout);
    pause();
    return 0;
}
