#include <stdio.h>

unsigned long checksum(const char *text);

int main(int count, char **words) {
    for (int i = 1; i < count; i++)
        printf("%08lx %s\n", checksum(words[i]), words[i]);
    return count < 2;
}
