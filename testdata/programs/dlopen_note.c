// A library that is opened at run time, as its note declares (UAPI.12).
//# lib /app/lib/libq.so.1
//# lib /app/lib/libb.so.1 runpath=/app/lib
//# main /app/main needed=libb.so.1 runpath=/app/lib
#if defined(PART_main)
#include "loaded.h"
int b(void);
int main(void) { return b() + print_loaded(); }
#elif defined(PART_libb_so_1)
#include <dlfcn.h>
__asm__(".pushsection .note.dlopen,\"a\",%note\n"
        ".balign 4\n"
        ".long 1f-0f, 3f-2f, 0x407c0c0a\n"
        "0: .asciz \"FDO\"\n"
        "1: .balign 4\n"
        "2: .asciz \"[{\\\"soname\\\":[\\\"libq.so.1\\\"],\\\"priority\\\":\\\"required\\\"}]\"\n"
        "3: .balign 4\n"
        ".popsection\n");
int b(void) { return dlopen("libq.so.1", RTLD_NOW) == 0; }
#else
int q(void) { return 0; }
#endif
