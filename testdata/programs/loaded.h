/* Prints the path of every object that the loader has mapped, in its order. */
#define _GNU_SOURCE
#include <link.h>
#include <stdio.h>

static int print_object(struct dl_phdr_info *info, size_t size, void *data) {
    (void)size;
    (void)data;
    printf("%s\n", info->dlpi_name);
    return 0;
}

static int print_loaded(void) {
    dl_iterate_phdr(print_object, 0);
    return 0;
}
