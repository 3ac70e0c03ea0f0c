#include "CURing.h"

#include <errno.h>
#include <liburing.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

_Static_assert(MARTLET_CQE_F_BUFFER == IORING_CQE_F_BUFFER, "");
_Static_assert(MARTLET_CQE_F_MORE == IORING_CQE_F_MORE, "");
_Static_assert(MARTLET_CQE_BUFFER_SHIFT == IORING_CQE_BUFFER_SHIFT, "");

struct martlet_ring {
    struct io_uring ring;
    // What tells the kernel of free buffers, and the buffers.
    struct io_uring_buf_ring *free;
    char *buffers;
    unsigned count;
    unsigned size;
};

static size_t free_size(const martlet_ring *ring) { return ring->count * sizeof(struct io_uring_buf); }
static size_t buffers_size(const martlet_ring *ring) { return (size_t)ring->count * ring->size; }

static void *map(size_t size) {
    return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_PRIVATE, -1, 0);
}

martlet_ring *martlet_ring_open(unsigned entries, unsigned completions, unsigned buffers, unsigned buffer_size) {
    martlet_ring *ring = calloc(1, sizeof *ring);
    if (!ring) return NULL;
    struct io_uring_params parameters = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_COOP_TASKRUN |
            IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE,
        .cq_entries = completions,
    };
    int result = io_uring_queue_init_params(entries, &ring->ring, &parameters);
    if (result < 0) {
        free(ring);
        errno = -result;
        return NULL;
    }
    ring->count = buffers;
    ring->size = buffer_size;
    ring->free = map(free_size(ring));
    ring->buffers = map(buffers_size(ring));
    struct io_uring_buf_reg registration = {.ring_addr = (uintptr_t)ring->free, .ring_entries = buffers};
    result = ring->free == MAP_FAILED || ring->buffers == MAP_FAILED
        ? -ENOMEM : io_uring_register_buf_ring(&ring->ring, &registration, 0);
    if (result < 0) {
        martlet_ring_close(ring);
        errno = -result;
        return NULL;
    }
    // The ring need not be looked up for each call then. Where that is not to be had it is looked up.
    (void)io_uring_register_ring_fd(&ring->ring);
    io_uring_buf_ring_init(ring->free);
    for (unsigned number = 0; number < buffers; number++) martlet_ring_give(ring, number);
    return ring;
}

void martlet_ring_close(martlet_ring *ring) {
    io_uring_queue_exit(&ring->ring);
    if (ring->free != MAP_FAILED) munmap(ring->free, free_size(ring));
    if (ring->buffers != MAP_FAILED) munmap(ring->buffers, buffers_size(ring));
    free(ring);
}

// A free entry; submits first if all are taken.
static struct io_uring_sqe *entry(martlet_ring *ring) {
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->ring);
    if (!sqe) {
        io_uring_submit(&ring->ring);
        sqe = io_uring_get_sqe(&ring->ring);
    }
    return sqe;
}

int martlet_ring_receive(martlet_ring *ring, int fd, uint64_t token) {
    struct io_uring_sqe *sqe = entry(ring);
    if (!sqe) return -EBUSY;
    io_uring_prep_recv_multishot(sqe, fd, NULL, 0, 0);
    sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = 0;
    io_uring_sqe_set_data64(sqe, token);
    return 0;
}

int martlet_ring_accept(martlet_ring *ring, int fd, uint64_t token) {
    struct io_uring_sqe *sqe = entry(ring);
    if (!sqe) return -EBUSY;
    io_uring_prep_multishot_accept(sqe, fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    io_uring_sqe_set_data64(sqe, token);
    return 0;
}

int martlet_ring_poll(martlet_ring *ring, int fd, unsigned events, int again, uint64_t token) {
    struct io_uring_sqe *sqe = entry(ring);
    if (!sqe) return -EBUSY;
    io_uring_prep_poll_add(sqe, fd, events);
    if (again) sqe->len |= IORING_POLL_ADD_MULTI;
    io_uring_sqe_set_data64(sqe, token);
    return 0;
}

int martlet_ring_send(martlet_ring *ring, int fd, const void *bytes, unsigned count, uint64_t token) {
    struct io_uring_sqe *sqe = entry(ring);
    if (!sqe) return -EBUSY;
    // Less than all counts as a failure with MSG_WAITALL, and a failure is told.
    io_uring_prep_send(sqe, fd, bytes, count, MSG_NOSIGNAL | MSG_DONTWAIT | MSG_WAITALL);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    io_uring_sqe_set_data64(sqe, token);
    return 0;
}

int martlet_ring_cancel(martlet_ring *ring, uint64_t token, uint64_t own) {
    struct io_uring_sqe *sqe = entry(ring);
    if (!sqe) return -EBUSY;
    io_uring_prep_cancel64(sqe, token, 0);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    io_uring_sqe_set_data64(sqe, own);
    return 0;
}

static int submit_and_wait(martlet_ring *ring, int64_t microseconds) {
    if (microseconds == 0) return io_uring_submit_and_get_events(&ring->ring);
    if (microseconds < 0) return io_uring_submit_and_wait(&ring->ring, 1);
    struct __kernel_timespec time = {.tv_sec = microseconds / 1000000, .tv_nsec = microseconds % 1000000 * 1000};
    struct io_uring_cqe *completion;
    return io_uring_submit_and_wait_timeout(&ring->ring, &completion, 1, &time, NULL);
}

int martlet_ring_wait(martlet_ring *ring, int64_t microseconds) {
    int result = submit_and_wait(ring, microseconds);
    // The kernel takes less than all only while it is out of memory; what is sent must be gone when this returns.
    while (io_uring_sq_ready(&ring->ring) > 0) {
        sched_yield();
        result = submit_and_wait(ring, 0);
    }
    return result;
}

int martlet_ring_next(martlet_ring *ring, martlet_completion *completion) {
    struct io_uring_cqe *cqe;
    if (io_uring_peek_cqe(&ring->ring, &cqe) != 0 || !cqe) return 0;
    completion->token = cqe->user_data;
    completion->result = cqe->res;
    completion->flags = cqe->flags;
    io_uring_cqe_seen(&ring->ring, cqe);
    return 1;
}

int martlet_ring_find(martlet_ring *ring, uint64_t bits, unsigned *position, martlet_completion *completion) {
    const struct io_uring_cq *cq = &ring->ring.cq;
    unsigned count = io_uring_cq_ready(&ring->ring), head = *cq->khead;
    while (*position < count) {
        const struct io_uring_cqe *cqe = &cq->cqes[(head + (*position)++) & cq->ring_mask];
        if ((cqe->user_data & bits) != bits) continue;
        completion->token = cqe->user_data;
        completion->result = cqe->res;
        completion->flags = cqe->flags;
        return 1;
    }
    return 0;
}

int martlet_ring_has_ended(martlet_ring *ring, uint64_t token, int *brought) {
    unsigned head;
    struct io_uring_cqe *cqe;
    int ended = 0;
    io_uring_for_each_cqe(&ring->ring, head, cqe) {
        if (cqe->user_data != token) continue;
        if (cqe->res != -ECANCELED && cqe->res != -ENOBUFS) *brought = 1;
        if (!(cqe->flags & IORING_CQE_F_MORE)) ended = 1;
    }
    return ended;
}

const void *martlet_ring_buffer(const martlet_ring *ring, unsigned number) {
    return ring->buffers + (size_t)number * ring->size;
}

void martlet_ring_give(martlet_ring *ring, unsigned number) {
    char *buffer = ring->buffers + (size_t)number * ring->size;
    io_uring_buf_ring_add(
        ring->free, buffer, ring->size, (unsigned short)number, io_uring_buf_ring_mask(ring->count), 0);
    io_uring_buf_ring_advance(ring->free, 1);
}
