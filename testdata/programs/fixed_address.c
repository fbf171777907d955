// A program at a fixed address.
//# lib /app/lib/libq.so.1
//# main /app/main needed=libq.so.1 runpath=/app/lib flags=-no-pie
#ifdef PART_main
#include "loaded.h"
int q(void);
int main(void) { return q() + print_loaded(); }
#else
int q(void) { return 0; }
#endif
