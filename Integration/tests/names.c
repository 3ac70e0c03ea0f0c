// A getaddrinfo that knows the names of a file before all others: for tests in which a name leads elsewhere.
//
//     MARTLET_NAMES=/tmp/names LD_PRELOAD=./names.so martlet martlet.ini
//
// Each line of the file is a name and its IPv4 addresses; a name without one does not exist. Each question about a name of
// the file is noted in the file of that name with ".asked" behind it, one byte each.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int (*function)(const char *, const char *, const struct addrinfo *, struct addrinfo **);

static int find(const char *wanted, char *line, size_t size) {
    const char *path = getenv("MARTLET_NAMES");
    FILE *file = path && wanted ? fopen(path, "r") : NULL;
    if (!file) return 0;
    size_t length = strlen(wanted);
    int found = 0;
    while (!found && fgets(line, (int)size, file))
        found = strncmp(line, wanted, length) == 0 && (line[length] == ' ' || line[length] == '\n');
    fclose(file);
    if (found) {
        char noted[4096];
        snprintf(noted, sizeof noted, "%s.asked", path);
        FILE *notes = fopen(noted, "a");
        if (notes) {
            fputc('x', notes);
            fclose(notes);
        }
    }
    return found;
}

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **result) {
    function real = (function)dlsym(RTLD_NEXT, "getaddrinfo");
    char line[4096];
    if ((hints && hints->ai_flags & AI_NUMERICHOST) || !find(name, line, sizeof line))
        return real(name, service, hints, result);
    struct addrinfo *first = NULL, **last = &first;
    strtok(line, " \n");
    for (char *address; (address = strtok(NULL, " \n"));) {
        // What the real one makes of an address is freed as what it makes of a name.
        if (real(address, service, hints, last) != 0) continue;
        while (*last) last = &(*last)->ai_next;
    }
    if (!first) return EAI_NONAME;
    *result = first;
    return 0;
}
