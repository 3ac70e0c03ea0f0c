// What Swift's Glibc module lacks or cannot import: declarations and one-line wrappers, no logic.
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/un.h>
#include <unistd.h>

#include "process.h"

// epoll: the `data` union is only ever used as a 64-bit token. The struct is packed on x86-64, so its fields are
// written and read here.
static inline int martlet_epoll_ctl(int epoll, int operation, int fd, uint32_t events, uint64_t token) {
    struct epoll_event event = {.events = events, .data = {.u64 = token}};
    return epoll_ctl(epoll, operation, fd, &event);
}
static inline uint32_t martlet_epoll_events(const struct epoll_event *event) { return event->events; }
static inline uint64_t martlet_epoll_token(const struct epoll_event *event) { return event->data.u64; }

enum {
    MARTLET_EPOLLIN = EPOLLIN,
    MARTLET_EPOLLOUT = EPOLLOUT,
    MARTLET_EPOLLERR = EPOLLERR,
    MARTLET_EPOLLHUP = EPOLLHUP,
    MARTLET_EPOLLRDHUP = EPOLLRDHUP,
    MARTLET_EPOLL_CTL_ADD = EPOLL_CTL_ADD,
    MARTLET_EPOLL_CTL_MOD = EPOLL_CTL_MOD,
    MARTLET_EPOLL_CTL_DEL = EPOLL_CTL_DEL,
};

// These need _GNU_SOURCE, which must not be defined where Swift's own Glibc module is imported too.
int martlet_accept(int fd, struct sockaddr *address, socklen_t *length);
// Credentials of the process at the other end of a Unix socket. Returns 0, or -1 with errno.
int martlet_peer_credentials(int fd, uint32_t *pid, uint32_t *uid, uint32_t *gid);
// Names the calling thread, for top and gdb; at most 15 bytes.
void martlet_name_thread(const char *name);

static inline int martlet_socket(int family) { return socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0); }
// Not through send(2) and recv(2) of the library: those are points where a thread can be cancelled, which costs two
// atomic operations a call, and no thread here ever is.
static inline ssize_t martlet_send(int fd, const void *bytes, size_t count) {
    return syscall(SYS_sendto, fd, bytes, count, MSG_NOSIGNAL | MSG_DONTWAIT, NULL, 0);
}
static inline ssize_t martlet_recv(int fd, void *bytes, size_t count) {
    return syscall(SYS_recvfrom, fd, bytes, count, MSG_DONTWAIT, NULL, NULL);
}

enum {
    MARTLET_SOL_SOCKET = SOL_SOCKET,
    MARTLET_SO_REUSEADDR = SO_REUSEADDR,
    MARTLET_SO_REUSEPORT = SO_REUSEPORT,
    MARTLET_SO_KEEPALIVE = SO_KEEPALIVE,
    MARTLET_SO_ERROR = SO_ERROR,
    MARTLET_SO_SNDBUF = SO_SNDBUF,
    MARTLET_SO_RCVBUF = SO_RCVBUF,
    MARTLET_IPPROTO_TCP = IPPROTO_TCP,
    MARTLET_IPPROTO_IPV6 = IPPROTO_IPV6,
    MARTLET_IPV6_V6ONLY = IPV6_V6ONLY,
    MARTLET_TCP_NODELAY = TCP_NODELAY,
    MARTLET_TCP_KEEPCNT = TCP_KEEPCNT,
    MARTLET_TCP_KEEPIDLE = TCP_KEEPIDLE,
    MARTLET_TCP_KEEPINTVL = TCP_KEEPINTVL,
    MARTLET_TCP_USER_TIMEOUT = TCP_USER_TIMEOUT,
    MARTLET_TCP_DEFER_ACCEPT = TCP_DEFER_ACCEPT,
};
