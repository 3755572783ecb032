/*
 * Takes the place of a QEMU that answers what it is asked, and says far too much of something:
 * WHAT is text, lines, banners, ups (console), events, answers (monitor), packets, stops (gdb
 * stub), or nothing. Or it always wants a processor, and sees to it that it never has one: starves.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int monitor, console;
static pthread_mutex_t talking = PTHREAD_MUTEX_INITIALIZER;

static int is(const char *name)
{
    return !strcmp(WHAT, name);
}

static int connected(const char *path, size_t length)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int to = socket(AF_UNIX, SOCK_STREAM, 0);

    memcpy(at.sun_path, path, length < sizeof at.sun_path ? length : sizeof at.sun_path - 1);
    return connect(to, (struct sockaddr *)&at, sizeof at) ? -1 : to;
}

static void say(int to, const char *text)
{
    size_t left = strlen(text);

    while (left) {
        ssize_t done = write(to, text, left);
        if (done <= 0)
            exit(0);
        text += done;
        left -= done;
    }
}

/* For ever, in pieces of some 64 KiB. */
static void repeat(int to, const char *text, int locked)
{
    size_t one = strlen(text), number = 65536 / one + 1;
    char *many = malloc(one * number + 1);

    for (size_t at = 0; at < number; at++)
        memcpy(many + at * one, text, one);
    many[one * number] = 0;
    for (;;) {
        if (locked)
            pthread_mutex_lock(&talking);
        say(to, many);
        if (locked)
            pthread_mutex_unlock(&talking);
    }
}

static void *spin(void *ignored)
{
    for (;;)
        ;
}

/* A thread that runs only where nobody else wants to, and others that always do. */
static void starve(void)
{
    pthread_t thread;
    struct sched_param none = {0};

    for (int hogs = 0; hogs < 4; hogs++)
        if (!fork())
            spin(0);
    pthread_create(&thread, 0, spin, 0);
    pthread_setschedparam(thread, SCHED_IDLE, &none);
}

static void *speak(void *ignored)
{
    if (is("starves"))
        starve();
    while (is("starves"))
        pause();
    if (is("text"))
        repeat(console, "no line end \033[1m and no banner \377", 0);
    if (is("lines"))
        repeat(console, "BOOTMATRIX here boot=1 nonce=1\r\nBOOTMATRIX flashing at=1\r\n", 0);
    if (is("banners"))
        repeat(console, "SeaBIOS (version 1.14.0-2)\r\nSeaBIOS (version 6.6.6)\r\n", 0);
    if (is("ups"))
        repeat(console, "SeaBIOS (version 1.14.0-2)\r\nBOOTMATRIX up boot=1 bios-vendor=\"\" "
                        "bios-version=\"\" disk=\"A\"\r\n", 0);
    if (is("events"))
        repeat(monitor, "{\"event\":\"RESET\",\"data\":{\"guest\":true},\"timestamp\":"
                        "{\"seconds\":1,\"microseconds\":1}}\r\n", 1);
    if (is("answers"))
        repeat(monitor, "{\"return\":{},\"id\":\"__qmp#00002\"}\r\n{\"return\":[],\"id\":9}\r\n", 1);
    for (;;)
        say(console, "SeaBIOS (version 1.14.0-2)\r\nBOOTMATRIX up boot=1 bios-vendor=\"\" "
                     "bios-version=\"\" disk=\"A\"\r\n"), sleep(1);
}

static void *stub(void *path)
{
    int to = connected(path, strcspn(path, "\""));

    if (is("packets"))
        repeat(to, "$OK#9a$E01#a6$#00", 0);
    if (is("stops"))
        repeat(to, "+$T05thread:01;#07", 0);
    for (;;) {
        char heard[65536];
        if (read(to, heard, sizeof heard) <= 0)
            return 0;
        say(to, "+$OK#9a+$T05#b9");
    }
}

static void event(const char *name, const char *data)
{
    char line[500];

    snprintf(line, sizeof line, "{\"event\":\"%s\",\"data\":{%s},\"timestamp\":{\"seconds\":1,"
             "\"microseconds\":1}}\r\n", name, data);
    say(monitor, line);
}

static void answer(char *asked)
{
    char line[1000];
    char *id = strstr(asked, "\"id\":\""), *path = strstr(asked, "gdbserver unix:");
    const char *result = "{}";
    pthread_t thread;

    if (strstr(asked, "query-status"))
        result = "{\"running\":true,\"status\":\"debug\"}";
    if (strstr(asked, "human-monitor-command"))
        result = "\"\"";
    if (strstr(asked, "pmemsave")) {
        char *file = strstr(asked, "\"filename\":\"") + 12, *size = strstr(asked, "\"size\":") + 7;
        FILE *memory = fopen(strndup(file, strcspn(file, "\"")), "w");
        if (memory && !ftruncate(fileno(memory), atol(size)))
            fclose(memory);
    }
    pthread_mutex_lock(&talking);
    if (id)
        id += 6;
    snprintf(line, sizeof line, "{\"return\":%s%s%.*s%s}\r\n", result, id ? ",\"id\":\"" : "",
             id ? (int)strcspn(id, "\"") : 0, id ? id : "", id ? "\"" : "");
    say(monitor, line);
    if (strstr(asked, "system_reset")) {
        event("RESET", "\"guest\":false");
        event("STOP", "");
    }
    if (strstr(asked, "\"migrate\"") || strstr(asked, "migrate-incoming"))
        event("MIGRATION", "\"status\":\"completed\"");
    pthread_mutex_unlock(&talking);
    if (path)
        pthread_create(&thread, 0, stub, strdup(path + 15));
    if (strstr(asked, "\"quit\""))
        exit(0);
}

int main(int count, char **words)
{
    char heard[65536];
    int there = 0, depth = 0;
    pthread_t thread;

    if (!strcmp(words[count - 1], "help")) {
        puts("Supported machines are:\npc-i440fx-5.2        Standard PC (default)");
        return 0;
    }
    if (!strcmp(words[count - 1], "--version")) {
        puts("QEMU emulator version 9.9.9");
        return 0;
    }
    signal(SIGPIPE, SIG_IGN);
    for (int number = 1; number < count; number++) {
        char *path = strstr(words[number], "path=");
        if (path && strstr(path, "console.sock"))
            console = connected(path + 5, strcspn(path + 5, ","));
        if (path && strstr(path, "monitor.sock"))
            monitor = connected(path + 5, strcspn(path + 5, ","));
    }
    say(monitor, "{\"QMP\":{\"version\":{\"qemu\":{\"major\":9}},\"capabilities\":[]}}\r\n");
    pthread_create(&thread, 0, speak, 0);
    while (read(monitor, heard + there, 1) == 1) {  /* commands end with their last brace */
        depth += (heard[there] == '{') - (heard[there] == '}');
        if (heard[there++] == '}' && !depth) {
            heard[there] = 0;
            answer(heard);
            there = 0;
        }
    }
    return 0;
}
