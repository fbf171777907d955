// DT_RPATH of the program serves its libraries.
//# lib /app/lib/libq.so.1
//# lib /app/lib/libb.so.1 needed=libq.so.1
//# main /app/main needed=libb.so.1 rpath=/app/lib
#if defined(PART_main)
#include "loaded.h"
int b(void);
int main(void) { return b() + print_loaded(); }
#elif defined(PART_libb_so_1)
int q(void);
int b(void) { return q(); }
#else
int q(void) { return 0; }
#endif
