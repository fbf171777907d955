// Symbol versions, as the linker writes them.
//# lib /app/lib/libq.so.1 version-script=Q_1{global:q;local:*;};
//# main /app/main needed=libq.so.1 runpath=/app/lib
#ifdef PART_main
#include "loaded.h"
int q(void);
int main(void) { return q() + print_loaded(); }
#else
int q(void) { return 0; }
#endif
