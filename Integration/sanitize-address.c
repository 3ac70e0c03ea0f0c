// Linked into the address sanitizer's build only (Integration/sanitize): looks for blocks that nobody refers to any more
// when the process ends. It ends by _exit, whose version of the sanitizer leaves that out.

#define _GNU_SOURCE
#include <sys/syscall.h>
#include <unistd.h>

extern int __lsan_do_recoverable_leak_check(void);

void _exit(int status) {
    __lsan_do_recoverable_leak_check();
    syscall(SYS_exit_group, status);
    __builtin_unreachable();
}

// The main thread's stack is given up when the process begins to serve, and what was made for the start with it. The others
// are kept by an enum that has bits of its own in the pointer, which the sanitizer then takes for none.
const char *__lsan_default_suppressions(void) {
    return "leak:martlet_main\n"
           "leak:AuthQueryReply\n"
           "leak:SQL13RouterCommandO\n"
           "leak:11LDAPOptionsV\n";
}
