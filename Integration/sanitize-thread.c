// Linked into the thread sanitizer's build only (Integration/sanitize): tells the sanitizer of what orders threads inside of
// Swift's libraries, which are not instrumented. Nothing is suppressed.
//
// 1. Swift's Mutex is a word that is taken and given back by atomic instructions; these are in our own code, where the
//    sanitizer sees them. Only when two threads want it at the same time its library calls the kernel (a futex with
//    priority inheritance), which passes the lock on without an instruction of ours: what one thread did before it let go
//    looks unordered with what the next one does. Here the two functions for that case are put in front of the library's.
// 2. A task that waits is resumed on another thread by Swift's runtime, which does tell the sanitizer of it, if it has been
//    told that there is one: the sanitizer calls __tsan_on_initialize for that, but on Linux finds only its own empty one.
// 3. Not told of is only a task whose result is there before it begins to wait for it.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>

extern void __tsan_acquire(void *address);
extern void __tsan_release(void *address);

#define LOCK_SLOW "$s15Synchronization12_MutexHandleV9_lockSlowyys6UInt32VF"
#define UNLOCK_SLOW "$s15Synchronization12_MutexHandleV11_unlockSlowyyF"

// Swift's calling convention: `self` in its own register.
#define SWIFT __attribute__((swiftcall)) void
#define SELF __attribute__((swift_context)) void *self

typedef SWIFT LockSlow(uint32_t thread, SELF);
typedef SWIFT UnlockSlow(SELF);

SWIFT lock_slow(uint32_t thread, SELF) __asm__(LOCK_SLOW);
SWIFT unlock_slow(SELF) __asm__(UNLOCK_SLOW);

SWIFT lock_slow(uint32_t thread, SELF) {
    ((LockSlow *)dlsym(RTLD_NEXT, LOCK_SLOW))(thread, self);
    __tsan_acquire(self);
}

SWIFT unlock_slow(SELF) {
    __tsan_release(self);
    ((UnlockSlow *)dlsym(RTLD_NEXT, UNLOCK_SLOW))(self);
}

__attribute__((constructor)) static void tell_runtime(void) {
    void (*initialize)(void) = (void (*)(void))dlsym(RTLD_NEXT, "__tsan_on_initialize");
    if (initialize) initialize();
}

extern __attribute__((swiftcall)) void *swift_task_getCurrent(void);

SWIFT swift_continuation_resume(void *task) {
    __tsan_release(task);
    ((SWIFT(*)(void *))dlsym(RTLD_NEXT, "swift_continuation_resume"))(task);
}

// If the result has come before, the task goes on at once, on this thread, where its continuation's context says: we are
// there first. A task that has to wait goes on where it was told to when the continuation was made.
typedef __attribute__((swiftasynccall)) void Step(__attribute__((swift_async_context)) void *context);

struct context {
    struct context *parent;
    Step *resume;
};

static __thread Step *next;

__attribute__((swiftasynccall)) static void resumed(__attribute__((swift_async_context)) void *context) {
    Step *step = next;
    __tsan_acquire(swift_task_getCurrent());
    __attribute__((musttail)) return step(context);
}

typedef __attribute__((swiftasynccall)) void Await(struct context *context);

__attribute__((swiftasynccall)) void swift_continuation_await(struct context *context) {
    next = context->resume;
    context->resume = resumed;
    __attribute__((musttail)) return ((Await *)dlsym(RTLD_NEXT, "swift_continuation_await"))(context);
}
