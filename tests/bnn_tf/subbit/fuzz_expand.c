/* Expands every file of a corpus and prints status, size and CRC-32 of each result.
 *
 * The corpus is a list of files, each after its length (32 bits, little-endian). Every input stands in its
 * own allocation of exactly its length, so that the address sanitizer sees a read beyond it, and the same
 * holds for the output.
 */

#include <stdio.h>
#include <stdlib.h>

#include "expand.c"

static void expand_one(const uint8_t *in, size_t len)
{
    size_t size = 0, written = 0, i;
    snn_status status = snn_original_size(in, len, &size);
    uint8_t *out;
    if (status != SNN_OK) {
        printf("%d 0 0\n", (int)status);
        return;
    }
    out = malloc(size);
    status = snn_expand(in, len, out, size, &written);
    for (i = 0; status != SNN_OK && i < size; i++)
        if (out[i] != 0) exit(3);
    printf("%d %lu %lu\n", (int)status, (unsigned long)written, (unsigned long)snn_crc32(0, out, written));
    free(out);
}

int main(int argc, char **argv)
{
    uint8_t head[4];
    FILE *corpus = argc == 2 ? fopen(argv[1], "rb") : NULL;
    if (corpus == NULL) return 2;
    while (fread(head, 1, 4, corpus) == 4) {
        size_t len = snn_u32(head);
        uint8_t *in = malloc(len);
        if (fread(in, 1, len, corpus) != len) return 2;
        expand_one(in, len);
        free(in);
    }
    return fclose(corpus);
}
