// A static program needs nobody.
//# main /app/main flags=-static
#include <stdio.h>
int main(void) { return puts("") < 0; }
