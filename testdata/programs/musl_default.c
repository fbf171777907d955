// musl: a default directory, and names of the C library that are the loader.
//# compiler musl-gcc
//# lib /usr/local/lib/libq.so.1
//# main /app/main needed=libq.so.1
#ifdef PART_main
#include "loaded.h"
int q(void);
int main(void) { return q() + print_loaded(); }
#else
int q(void) { return 0; }
#endif
