// The hash table of the last century, and needs without which the linker would do.
//# lib /app/lib/libq.so.1 flags=-Wl,--hash-style=sysv
//# lib /app/lib/libr.so.1
//# main /app/main needed=libq.so.1,libr.so.1 runpath=/app/lib flags=-Wl,--hash-style=sysv
#ifdef PART_main
#include "loaded.h"
int main(void) { return print_loaded(); }
#else
int q(void) { return 0; }
#endif
