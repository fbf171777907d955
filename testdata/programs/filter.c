// Filters: the filtees are mapped with them; an auxiliary one may be missing.
//# any-order
//# lib /app/lib/libfiltee.so.1
//# lib /app/lib/libaux.so.1
//# lib /app/lib/libf.so.1 flags=-Wl,-F,libfiltee.so.1 runpath=/app/lib
//# lib /app/lib/libg.so.1 flags=-Wl,-f,libaux.so.1,-f,libnone.so.1 runpath=/app/lib
//# main /app/main needed=libf.so.1,libg.so.1 runpath=/app/lib
#ifdef PART_main
#include "loaded.h"
int main(void) { return print_loaded(); }
#else
int v;
#endif
