// A library beside the program, found through $ORIGIN.
//# lib /opt/t/lib/libq.so.1
//# main /opt/t/bin/main needed=libq.so.1 runpath=$ORIGIN/../lib
#ifdef PART_main
#include "loaded.h"
int q(void);
int main(void) { return q() + print_loaded(); }
#else
int q(void) { return 0; }
#endif
