// The parser of PostgreSQL as a library, and its tree's description.
#include <pg_query.h>
#include <pg_query/pg_query.pb-c.h>
