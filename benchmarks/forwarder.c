/* What a hop costs before anybody looks at anything: copies bytes between a client and a server, and nothing else.
 *
 *     forwarder PORT SERVER_PORT [NS]   both on 127.0.0.1; several processes may share PORT
 *
 * NS: nanoseconds of its processor it spends on whatever it hands on, as one would that had work to do.
 *
 * One epoll loop, blocking sends, no TLS, no limits: a yardstick for `python -m benchmarks`, not a proxy to use.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 4096, READY = 64, ROOM = 65536 };

static int peer[MOST];
static char bytes[ROOM];
static long work_ns;

static struct sockaddr_in local(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static void watch(int queue, int file) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = file};
    epoll_ctl(queue, EPOLL_CTL_ADD, file, &event);
}

static void pair(int queue, int client, int server_port) {
    int server = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    struct sockaddr_in address = local(server_port);
    if (client >= MOST || server >= MOST || connect(server, (void *)&address, sizeof address)) {
        close(client);
        close(server);
        return;
    }
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    peer[client] = server;
    peer[server] = client;
    watch(queue, client);
    watch(queue, server);
}

static long spent_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec * 1000000000L + now.tv_nsec;
}

static void work(void) {
    if (work_ns)
        for (long until = spent_ns() + work_ns; spent_ns() < until;)
            ;
}

/* Hands on what there is; 0 at the end of either side. */
static int pass(int from, int to) {
    ssize_t size = recv(from, bytes, sizeof bytes, 0), sent;
    work();
    for (ssize_t at = 0; at < size; at += sent)
        if ((sent = send(to, bytes + at, size - at, MSG_NOSIGNAL)) <= 0)
            return 0;
    return size > 0;
}

int main(int count, char **words) {
    if (count < 3)
        return 2;
    work_ns = count > 3 ? atol(words[3]) : 0;
    int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1, queue = epoll_create1(0);
    struct sockaddr_in address = local(atoi(words[1]));
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(listener, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    if (bind(listener, (void *)&address, sizeof address) || listen(listener, 128))
        return 1;
    watch(queue, listener);
    struct epoll_event ready[READY];
    for (;;) {
        int events = epoll_wait(queue, ready, READY, -1);
        for (int number = 0; number < events; number++) {
            int file = ready[number].data.fd;
            if (file == listener) {
                pair(queue, accept(listener, NULL, NULL), atoi(words[2]));
            } else if (peer[file] && !pass(file, peer[file])) {
                int other = peer[file];
                peer[file] = peer[other] = 0;
                close(file);
                close(other);
            }
        }
    }
}
