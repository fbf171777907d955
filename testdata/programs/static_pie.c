// Nor does a static one that runs at any address.
//# main /app/main flags=-static-pie
#include <stdio.h>
int main(void) { return puts("") < 0; }
