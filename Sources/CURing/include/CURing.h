// liburing for one event loop, as Swift can import it: thin wrappers, no logic. (Its own header defines feature macros
// that the Glibc module does not stand.) Results are those of liburing: 0 or more, or -errno.
#pragma once

#include <stdint.h>

// A ring that one thread uses, and a group of buffers of equal size that its receives are served from.
typedef struct martlet_ring martlet_ring;

typedef struct {
    uint64_t token;
    int32_t result;
    uint32_t flags;
} martlet_completion;

enum {
    MARTLET_CQE_F_BUFFER = 1 << 0,
    MARTLET_CQE_F_MORE = 1 << 1,
    MARTLET_CQE_BUFFER_SHIFT = 16,
};

// Makes a ring for the calling thread, whose completions appear only when that thread asks for them. `buffers` is a
// power of two. NULL with errno: EINVAL before kernel 6.1, EPERM or ENOSYS where it is not allowed.
martlet_ring *martlet_ring_open(unsigned entries, unsigned completions, unsigned buffers, unsigned buffer_size);
void martlet_ring_close(martlet_ring *ring);

// Queue an operation; -EBUSY when the kernel takes none now.
// Receives again and again. Never at once: what is there already comes with the completions.
int martlet_ring_receive(martlet_ring *ring, int fd, uint64_t token);
// Accepts again and again.
int martlet_ring_accept(martlet_ring *ring, int fd, uint64_t token);
// Waits for events: once, or for each change again. Tells of errors, of the end, and of a peer that sends no more as well.
int martlet_ring_poll(martlet_ring *ring, int fd, unsigned events, int again, uint64_t token);
// Sends within the next submission, as much as the socket takes at once. A completion follows only if that is not all:
// how much it was, or -errno. The bytes must stay until the submission.
int martlet_ring_send(martlet_ring *ring, int fd, const void *bytes, unsigned count, uint64_t token);
// Ends an operation. Says nothing when it succeeds, since what was cancelled says so itself; else completes with `own`.
int martlet_ring_cancel(martlet_ring *ring, uint64_t token, uint64_t own);

// Submits what is queued and waits for one completion, or for so many microseconds; below 0 is without end.
int martlet_ring_wait(martlet_ring *ring, int64_t microseconds);
// Takes the next completion that is there; 0 when there is none.
int martlet_ring_next(martlet_ring *ring, martlet_completion *completion);
// Looks at the completions that are there, from the `position`-th on, without taking any: finds one whose token has these
// bits and moves the position behind it. 0 when there is none.
int martlet_ring_find(martlet_ring *ring, uint64_t bits, unsigned *position, martlet_completion *completion);
// Whether the last completion of an operation is there; `brought` is set to 1 when one is that has a result. Takes none.
int martlet_ring_has_ended(martlet_ring *ring, uint64_t token, int *brought);

const void *martlet_ring_buffer(const martlet_ring *ring, unsigned number);
// Gives a buffer back to the kernel.
void martlet_ring_give(martlet_ring *ring, unsigned number);
