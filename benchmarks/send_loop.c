/* The floor: a server of event streams that does nothing but send(), in C.
 *
 * It prints its port. Each line on standard input, `COUNT RATE`, has it publish COUNT events, RATE in
 * a second (0: one after the other): every event is one send() to every client. It knows no client
 * that is slow or gone, no heartbeat, no id that is asked for, and no second publisher.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CLIENTS = 65536 };

static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                           "Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n"
                           "d\r\n: connected\n\n\r\n";
static int clients[CLIENTS], count, epoll, listener;

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void send_all(int client, const char *data, size_t size) {
    while (size) {
        ssize_t sent = send(client, data, size, MSG_NOSIGNAL);
        if (sent < 0) fail("send");
        data += sent;
        size -= sent;
    }
}

static void publish(long number) {
    char block[512], chunk[600];
    int size = snprintf(block, sizeof block,
        "id: 3f9a1c07-1735689600000-%ld\nevent: progress\ndata: {\"at\":%lld,\"job\":\"7f3a91c2\","
        "\"state\":\"running\",\"step\":\"render\",\"done\":0.4375}\n\n", number, (long long)now());
    size = snprintf(chunk, sizeof chunk, "%x\r\n%s\r\n", size, block);
    for (int i = 0; i < count; i++) send_all(clients[i], chunk, size);
}

int main(void) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof address;
    int one = 1;
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, length) || listen(listener, 1024)) fail("listen");
    getsockname(listener, (struct sockaddr *)&address, &length);
    epoll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    event.data.fd = 0;
    epoll_ctl(epoll, EPOLL_CTL_ADD, 0, &event);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    long published = 0;
    for (;;) {
        struct epoll_event events[256];
        int ready = epoll_wait(epoll, events, 256, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            char data[4096];
            if (fd == listener) {
                int client;
                while (count < CLIENTS && (client = accept(listener, NULL, NULL)) >= 0) {
                    event.data.fd = client;
                    epoll_ctl(epoll, EPOLL_CTL_ADD, client, &event);
                }
            } else if (fd == 0) {
                ssize_t size = read(0, data, sizeof data - 1);
                if (size <= 0) return 0;
                data[size] = 0;
                double events_due, rate;
                if (sscanf(data, "%lf %lf", &events_due, &rate) != 2) return 2;
                int64_t start = now();
                for (long n = 0; n < (long)events_due; n++) {
                    if (rate > 0) {
                        int64_t wait = start + (int64_t)(n * 1e9 / rate) - now();
                        struct timespec pause = {wait / 1000000000, wait % 1000000000};
                        if (wait > 0) nanosleep(&pause, NULL);
                    }
                    publish(published++);
                }
            } else if (recv(fd, data, sizeof data, MSG_DONTWAIT) > 0) { /* a request, whole */
                send_all(fd, head, sizeof head - 1);
                clients[count++] = fd;
            } else {
                close(fd);
            }
        }
    }
}
