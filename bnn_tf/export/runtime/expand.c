/*
 * Filters of 3 x 3 from a codebook: `bits` bits for each input of each output say which pattern it is.
 * Writes them as net_count reads them: groups of 32 filters (the last one of 16, if no more is needed),
 * byte k of all filters of a group, then byte k + 1.
 */
static void net_expand(const uint8_t *indices, int bits, const uint16_t *patterns, int inputs, int outputs,
                       uint8_t *filters)
{
    const size_t depth = (size_t)((inputs + 7) / 8), mask = ((size_t)1 << bits) - 1;
    size_t at = 0;
    int o, i, tap;
    for (o = 0; o < outputs; ++o) {
        const int first = o / 32 * 32;
        const size_t size = outputs - first > 16 ? 32 : 16;
        uint8_t *const group = filters + (size_t)first * 9 * depth + (o - first);
        for (i = 0; i < inputs; ++i, at += (size_t)bits) {
            const size_t two = (size_t)indices[at >> 3] | (size_t)indices[(at >> 3) + 1] << 8;
            const unsigned int pattern = patterns[two >> (at & 7) & mask];
            for (tap = 0; tap < 9; ++tap) {
                uint8_t *const byte = group + ((size_t)tap * depth + (size_t)(i >> 3)) * size;
                *byte = (uint8_t)(*byte | (pattern >> tap & 1u) << (i & 7));
            }
        }
    }
}
