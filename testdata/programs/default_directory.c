// A library in a default directory, behind a chain of links.
//# lib /usr/lib/libq.so.1.2.3 soname=libq.so.1
//# link /usr/lib/libq.so.1 libq.so.1.2.3
//# main /app/main needed=libq.so.1.2.3
#ifdef PART_main
#include "loaded.h"
int q(void);
int main(void) { return q() + print_loaded(); }
#else
int q(void) { return 0; }
#endif
