#pragma once

#include <sys/resource.h>
#include <sys/types.h>
#include <unistd.h>

// fork(2), which the Glibc module hides. To be called while the process has one thread only.
static inline pid_t martlet_fork(void) { return fork(); }

enum { MARTLET_RLIMIT_MEMLOCK = RLIMIT_MEMLOCK };
