/* A load client that costs less than any server: many streams, one epoll, large reads.
 *
 * load PORT MARK: told on standard input, one command a line, and answers each with one line.
 *
 *   open N BURST      open N more streams, BURST at once; answers when the first bytes of the body
 *                     of each are here: seconds
 *   read EVENTS       read until so many more events have come on all streams together:
 *                     seconds, then the delays of p50, p99 and all, in milliseconds
 *   mute              read nothing any more
 *
 * An event is counted by a byte that occurs once in each and nowhere else in what a server sends,
 * so no read has to be put together with the one before it. Behind it stands `"at":` and the time
 * of publishing, in nanoseconds of CLOCK_MONOTONIC; where a read cuts that off, the delay of this
 * event is not counted.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { READ_BYTES = 256 * 1024, HEAD_BYTES = 1024, SILENCE_MS = 30000, DELAYS = 1 << 22 };

typedef struct {
    int fd;
    int in_body;
    int head_size;
    char *head;
} stream;

static int epoll, port;
static char mark;
static stream **streams;
static int count;
static char buffer[READ_BYTES + 1];
static uint32_t delays[DELAYS]; /* microseconds */
static int delay_count;
static long long delivered;

static void fail(const char *what) {
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void count_events(const char *at, const char *end) {
    static const char key[] = "\"at\":";
    int64_t time = 0;
    while ((at = memchr(at, mark, end - at))) {
        at++;
        delivered++;
        if (end - at < 30 || memcmp(at, key, sizeof key - 1)) continue;
        if (!time) time = now();
        int64_t delay = time - strtoll(at + sizeof key - 1, NULL, 10);
        if (delay_count < DELAYS) delays[delay_count++] = delay < 0 ? 0 : delay / 1000;
    }
}

static void connect_one(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    stream *s = calloc(1, sizeof *s);
    s->head = malloc(HEAD_BYTES);
    if ((s->fd = socket(AF_INET, SOCK_STREAM, 0)) < 0) fail("socket");
    if (connect(s->fd, (struct sockaddr *)&address, sizeof address)) fail("connect");
    char request[128];
    int size = snprintf(request, sizeof request,
        "GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept: text/event-stream\r\n\r\n", port);
    if (write(s->fd, request, size) != size) fail("request");
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = s};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, s->fd, &event)) fail("epoll_ctl");
    streams = realloc(streams, (count + 1) * sizeof *streams);
    streams[count++] = s;
}

/* Reads what is there once, and returns how many streams have come to their bodies. */
static int read_ready(void) {
    struct epoll_event events[512];
    int began = 0, ready = epoll_wait(epoll, events, 512, SILENCE_MS);
    if (ready < 0) fail("epoll_wait");
    if (!ready) { errno = ETIMEDOUT; fail("the server sends nothing"); }
    for (int i = 0; i < ready; i++) {
        stream *s = events[i].data.ptr;
        ssize_t size = recv(s->fd, buffer, READ_BYTES, MSG_DONTWAIT);
        if (size < 0 && errno == EAGAIN) continue;
        if (size <= 0) fail("the server ended a stream");
        buffer[size] = 0;
        if (s->in_body) {
            count_events(buffer, buffer + size);
            continue;
        }
        if (s->head_size + size >= HEAD_BYTES) fail("a long head");
        memcpy(s->head + s->head_size, buffer, size);
        s->head[s->head_size += size] = 0;
        char *blank = strstr(s->head, "\r\n\r\n");
        if (strncmp(s->head, "HTTP/1.1 200", 12)) fail(s->head);
        if (!blank || !blank[4]) continue;
        count_events(blank + 4, s->head + s->head_size);
        s->in_body = 1;
        free(s->head);
        s->head = NULL;
        began++;
    }
    return began;
}

static int compare(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static double delay(double share) {
    return delay_count ? delays[(int)(share * (delay_count - 1))] / 1000.0 : 0;
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    port = atoi(argv[1]);
    mark = argv[2][0];
    struct rlimit files = {0};
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if ((epoll = epoll_create1(0)) < 0) fail("epoll_create1");
    char line[128];
    while (fgets(line, sizeof line, stdin)) {
        int number, burst;
        long long events;
        int64_t start = now();
        if (sscanf(line, "open %d %d", &number, &burst) == 2) {
            while (number > 0) {
                int opening = number < burst ? number : burst;
                for (int i = 0; i < opening; i++) connect_one();
                for (int began = 0; began < opening;) began += read_ready();
                number -= opening;
            }
            printf("%.6f\n", (now() - start) / 1e9);
        } else if (sscanf(line, "read %lld", &events) == 1) {
            delay_count = 0;
            long long due = delivered + events;
            while (delivered < due) read_ready();
            if (delivered > due) { errno = 0; fail("more events came than were due"); }
            double seconds = (now() - start) / 1e9;
            qsort(delays, delay_count, sizeof *delays, compare);
            printf("%.6f %.3f %.3f %.3f\n", seconds, delay(0.5), delay(0.99), delay(1));
        } else if (!strncmp(line, "mute", 4)) {
            for (int i = 0; i < count; i++) epoll_ctl(epoll, EPOLL_CTL_DEL, streams[i]->fd, NULL);
            printf("0\n");
        } else {
            return 2;
        }
        fflush(stdout);
    }
    return 0;
}
