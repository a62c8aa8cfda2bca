/* Expands a .snn file to the .tflite it was made from, bit for bit. FORMAT.md describes every byte.
 *
 * C99, no dependency, no allocation, about 12 KB of stack. Include this file or declare what you use of it:
 *
 *   snn_original_size  what room the .tflite needs
 *   snn_expand         restores it; anything but SNN_OK means that nothing was restored
 *   snn_message        what a status means
 *
 * With SNN_EXPAND_MAIN defined it is a program: snn-expand model.snn model.tflite
 */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef enum {
    SNN_OK,
    SNN_NO_SNN_FILE,
    SNN_OTHER_VERSION,
    SNN_TRUNCATED,
    SNN_DAMAGED,
    SNN_NO_ROOM
} snn_status;

snn_status snn_original_size(const uint8_t *in, size_t in_len, size_t *size);
snn_status snn_expand(const uint8_t *in, size_t in_len, uint8_t *out, size_t out_cap, size_t *out_len);
const char *snn_message(snn_status status);

enum {
    SNN_VERSION = 1,
    SNN_FILE_HEADER = 28,
    SNN_SECTION_HEADER = 16,
    SNN_RAW = 0,
    SNN_PACKED = 1,
    SNN_RANS = 2,
    SNN_FLIPPED = 1,
    SNN_TAPS = 9,
    SNN_PATTERNS = 512,
    SNN_MAX_GROWTH = 64,
    SNN_SCALE_BITS = 12,
    SNN_SLOTS = 1 << SNN_SCALE_BITS
};

#define SNN_STATE_FLOOR 65536u
#define SNN_MAX_ORIGINAL 2147483647u
#define SNN_MAX_CODED 4194304u

/* Bytes not read yet. */
typedef struct {
    const uint8_t *at;
    size_t left;
} snn_bytes;

/* Numbers of equal width, each lowest bit first. */
typedef struct {
    const uint8_t *at;
    size_t bit;
} snn_bits;

/* A section of indices while it is expanded. */
typedef struct {
    snn_bytes payload;
    snn_bits packed;
    uint32_t patterns;
    uint32_t width;
    uint32_t state;
    uint16_t codebook[SNN_PATTERNS];
    uint16_t frequency[SNN_PATTERNS];
    uint16_t first_slot[SNN_PATTERNS];
    uint16_t symbol[SNN_SLOTS];
} snn_indices;

static uint32_t snn_u16(const uint8_t *p) { return (uint32_t)p[0] | (uint32_t)p[1] << 8; }

static uint32_t snn_u32(const uint8_t *p) { return snn_u16(p) | snn_u16(p + 2) << 16; }

static uint32_t snn_crc32(uint32_t crc, const uint8_t *data, size_t len)
{
    static const uint32_t nibbles[16] = {
        0x00000000u, 0x1db71064u, 0x3b6e20c8u, 0x26d930acu, 0x76dc4190u, 0x6b6b51f4u, 0x4db26158u, 0x5005713cu,
        0xedb88320u, 0xf00f9344u, 0xd6d6a3e8u, 0xcb61b38cu, 0x9b64c2b0u, 0x86d3d2d4u, 0xa00ae278u, 0xbdbdf21cu};
    size_t i;
    crc = ~crc;
    for (i = 0; i < len; i++) {
        crc ^= data[i];
        crc = crc >> 4 ^ nibbles[crc & 15u];
        crc = crc >> 4 ^ nibbles[crc & 15u];
    }
    return ~crc;
}

/* Takes `size` bytes; NULL where fewer are left. */
static const uint8_t *snn_take(snn_bytes *bytes, size_t size)
{
    const uint8_t *start = bytes->at;
    if (size > bytes->left) return NULL;
    bytes->at += size;
    bytes->left -= size;
    return start;
}

/* Takes `count` numbers of `width` bits; false where fewer are left. */
static int snn_take_bits(snn_bytes *bytes, uint32_t width, uint64_t count, snn_bits *bits)
{
    uint64_t size = (width * count + 7) / 8;
    bits->at = size > bytes->left ? NULL : snn_take(bytes, (size_t)size);
    bits->bit = 0;
    return bits->at != NULL;
}

static uint32_t snn_next(snn_bits *bits, uint32_t width)
{
    uint32_t value = 0, i;
    for (i = 0; i < width; i++) {
        value |= (uint32_t)(bits->at[0] >> bits->bit & 1) << i;
        if (++bits->bit == 8) {
            bits->bit = 0;
            bits->at++;
        }
    }
    return value;
}

/* Checks the file's header and moves past it. */
static snn_status snn_open(snn_bytes *file, const uint8_t **header)
{
    static const uint8_t magic[8] = {0x89, 'S', 'N', 'N', '\r', '\n', 0x1a, '\n'};
    if (file->left < sizeof magic) return SNN_TRUNCATED;
    if (memcmp(file->at, magic, sizeof magic) != 0) return SNN_NO_SNN_FILE;
    *header = snn_take(file, SNN_FILE_HEADER);
    if (*header == NULL) return SNN_TRUNCATED;
    if (snn_crc32(0, *header, 24) != snn_u32(*header + 24)) return SNN_DAMAGED;
    if (snn_u16(*header + 8) != SNN_VERSION) return SNN_OTHER_VERSION;
    if (snn_u16(*header + 10) != 0 || snn_u32(*header + 16) > SNN_MAX_ORIGINAL) return SNN_DAMAGED;
    return SNN_OK;
}

static int snn_read_codebook(snn_indices *indices)
{
    snn_bits bits;
    uint32_t i;
    if (!snn_take_bits(&indices->payload, SNN_TAPS, indices->patterns, &bits)) return 0;
    for (i = 0; i < indices->patterns; i++) {
        indices->codebook[i] = (uint16_t)snn_next(&bits, SNN_TAPS);
        if (i > 0 && indices->codebook[i] <= indices->codebook[i - 1]) return 0;
    }
    for (indices->width = 1; 1u << indices->width < indices->patterns;) indices->width++;
    return 1;
}

/* Reads the frequencies and the first state of the entropy coder. */
static int snn_read_rans(snn_indices *indices)
{
    snn_bits bits;
    const uint8_t *state;
    uint32_t i, slot = 0;
    if (!snn_take_bits(&indices->payload, SNN_SCALE_BITS, indices->patterns, &bits)) return 0;
    for (i = 0; i < indices->patterns; i++) {
        uint32_t frequency = snn_next(&bits, SNN_SCALE_BITS) + 1, end = slot + frequency;
        if (end > SNN_SLOTS) return 0;
        indices->frequency[i] = (uint16_t)frequency;
        indices->first_slot[i] = (uint16_t)slot;
        while (slot < end) indices->symbol[slot++] = (uint16_t)i;
    }
    state = snn_take(&indices->payload, 4);
    if (slot != SNN_SLOTS || state == NULL || indices->payload.left % 2 != 0) return 0;
    indices->state = snn_u32(state);
    return indices->state >= SNN_STATE_FLOOR;
}

/* Returns the next index; one that is not below `patterns` says that there is none. */
static uint32_t snn_next_index(snn_indices *indices, int kind)
{
    uint32_t slot = indices->state % SNN_SLOTS, index;
    if (kind == SNN_PACKED) return snn_next(&indices->packed, indices->width);
    index = indices->symbol[slot];
    indices->state =
        indices->frequency[index] * (indices->state >> SNN_SCALE_BITS) + slot - indices->first_slot[index];
    if (indices->state < SNN_STATE_FLOOR) {
        const uint8_t *word = snn_take(&indices->payload, 2);
        if (word == NULL) return SNN_PATTERNS;
        indices->state = indices->state << 16 | snn_u16(word);
    }
    return index;
}

/* Writes one output channel: (3, 3, ceil(cin / 32)) words, bit set for -1. */
static int snn_write_channel(snn_indices *indices, int kind, uint32_t flip, uint32_t cin, uint8_t *out)
{
    size_t stride = (size_t)(cin + 31) / 32 * 4;
    uint32_t channel, tap;
    memset(out, 0, SNN_TAPS * stride);
    for (channel = 0; channel < cin; channel++) {
        uint32_t index = snn_next_index(indices, kind), pattern;
        if (index >= indices->patterns) return 0;
        pattern = indices->codebook[index] ^ flip;
        for (tap = 0; tap < SNN_TAPS; tap++)
            out[tap * stride + channel / 8] |= (uint8_t)((pattern >> tap & 1) << channel % 8);
    }
    return 1;
}

/* Expands a section's payload to exactly `size` bytes of filter. */
static int snn_weights(snn_bytes payload, int kind, int flags, uint32_t patterns, uint8_t *out, size_t size)
{
    snn_indices indices;
    snn_bits flips = {NULL, 0};
    uint64_t channel_size;
    uint32_t cin, cout, channel;
    const uint8_t *channels = snn_take(&payload, 4);
    if (channels == NULL) return 0;
    cin = snn_u16(channels);
    cout = snn_u16(channels + 2);
    channel_size = (uint64_t)SNN_TAPS * 4 * ((cin + 31) / 32);
    if (cin == 0 || cout == 0 || channel_size * cout != size) return 0;
    indices.payload = payload;
    indices.packed = flips;
    indices.patterns = patterns;
    indices.state = 0;
    if (!snn_read_codebook(&indices)) return 0;
    if (flags & SNN_FLIPPED && !snn_take_bits(&indices.payload, 1, cout, &flips)) return 0;
    if (kind == SNN_RANS && !snn_read_rans(&indices)) return 0;
    if (kind == SNN_PACKED
        && !snn_take_bits(&indices.payload, indices.width, (uint64_t)cin * cout, &indices.packed))
        return 0;
    for (channel = 0; channel < cout; channel++, out += channel_size) {
        uint32_t flip = flips.at != NULL && snn_next(&flips, 1) ? SNN_PATTERNS - 1 : 0;
        if (!snn_write_channel(&indices, kind, flip, cin, out)) return 0;
    }
    return indices.payload.left == 0 && (kind == SNN_PACKED || indices.state == SNN_STATE_FLOOR);
}

/* Expands the next section into `out`, of which `room` bytes are free. */
static snn_status snn_section(snn_bytes *file, uint8_t *out, size_t room, size_t *size)
{
    const uint8_t *header = snn_take(file, SNN_SECTION_HEADER);
    snn_bytes payload;
    uint32_t patterns, restored;
    int kind, flags;
    if (header == NULL) return SNN_TRUNCATED;
    kind = header[0];
    flags = header[1];
    patterns = snn_u16(header + 2);
    restored = snn_u32(header + 4);
    payload.left = snn_u32(header + 8);
    payload.at = snn_take(file, payload.left);
    if (payload.at == NULL) return SNN_TRUNCATED;
    if (snn_crc32(snn_crc32(0, header, 12), payload.at, payload.left) != snn_u32(header + 12)) return SNN_DAMAGED;
    if (restored == 0 || restored > room) return SNN_DAMAGED;
    *size = restored;
    if (kind == SNN_RAW) {
        if (flags != 0 || patterns != 0 || payload.left != restored) return SNN_DAMAGED;
        memcpy(out, payload.at, restored);
        return SNN_OK;
    }
    if (kind != SNN_PACKED && kind != SNN_RANS) return SNN_DAMAGED;
    if (flags & ~SNN_FLIPPED || patterns == 0 || patterns > SNN_PATTERNS) return SNN_DAMAGED;
    if (restored > (uint64_t)SNN_MAX_GROWTH * payload.left) return SNN_DAMAGED;
    if (kind == SNN_RANS && payload.left > SNN_MAX_CODED) return SNN_DAMAGED;
    return snn_weights(payload, kind, flags, patterns, out, restored) ? SNN_OK : SNN_DAMAGED;
}

static snn_status snn_sections(snn_bytes file, const uint8_t *header, uint8_t *out, size_t size)
{
    uint32_t sections = snn_u32(header + 12), i;
    size_t done = 0, restored = 0;
    for (i = 0; i < sections; i++, done += restored) {
        snn_status status = snn_section(&file, out + done, size - done, &restored);
        if (status != SNN_OK) return status;
    }
    if (file.left != 0 || done != size || snn_crc32(0, out, size) != snn_u32(header + 20)) return SNN_DAMAGED;
    return SNN_OK;
}

/* Says how many bytes snn_expand will write: at most 64 times `in_len`. */
snn_status snn_original_size(const uint8_t *in, size_t in_len, size_t *size)
{
    snn_bytes file = {in, in_len};
    const uint8_t *header;
    snn_status status = snn_open(&file, &header);
    if (status != SNN_OK) return status;
    if (snn_u32(header + 16) > (uint64_t)SNN_MAX_GROWTH * in_len) return SNN_DAMAGED;
    *size = snn_u32(header + 16);
    return SNN_OK;
}

/* Restores the .tflite. Where it returns anything but SNN_OK, `out` holds zeros and `*out_len` is 0. */
snn_status snn_expand(const uint8_t *in, size_t in_len, uint8_t *out, size_t out_cap, size_t *out_len)
{
    snn_bytes file = {in, in_len};
    const uint8_t *header;
    size_t size;
    snn_status status = snn_original_size(in, in_len, &size);
    *out_len = 0;
    if (status == SNN_OK && size > out_cap) status = SNN_NO_ROOM;
    if (status == SNN_OK) status = snn_open(&file, &header);
    if (status == SNN_OK) status = snn_sections(file, header, out, size);
    if (status == SNN_OK)
        *out_len = size;
    else if (out_cap > 0)
        memset(out, 0, out_cap);
    return status;
}

const char *snn_message(snn_status status)
{
    switch (status) {
    case SNN_OK: return "restored";
    case SNN_NO_SNN_FILE: return "not a .snn file";
    case SNN_OTHER_VERSION: return "made by another version of the format: update this program";
    case SNN_TRUNCATED: return "the .snn file ends too early: fetch it again";
    case SNN_DAMAGED: return "the .snn file is damaged: fetch it again";
    case SNN_NO_ROOM: return "the model does not fit into the room given";
    }
    return "unknown status";
}

#ifdef SNN_EXPAND_MAIN

#include <stdio.h>
#include <stdlib.h>

static uint8_t *snn_read_file(const char *path, size_t *len)
{
    FILE *file = fopen(path, "rb");
    uint8_t *data = NULL;
    long size = -1;
    if (file == NULL) return NULL;
    if (fseek(file, 0, SEEK_END) == 0) size = ftell(file);
    if (size >= 0 && fseek(file, 0, SEEK_SET) == 0) data = malloc((size_t)size + 1);
    if (data != NULL) *len = fread(data, 1, (size_t)size, file);
    fclose(file);
    return data;
}

static int snn_write_file(const char *path, const uint8_t *data, size_t len)
{
    FILE *file = fopen(path, "wb");
    int written = file != NULL && fwrite(data, 1, len, file) == len;
    if (file != NULL && fclose(file) != 0) written = 0;
    if (!written) remove(path);
    return written;
}

int main(int argc, char **argv)
{
    uint8_t *in, *out = NULL;
    size_t in_len = 0, size = 0, out_len;
    int done = 0;
    snn_status status;
    if (argc != 3) {
        fprintf(stderr, "usage: %s model.snn model.tflite\n", argv[0]);
        return 2;
    }
    in = snn_read_file(argv[1], &in_len);
    if (in == NULL) {
        fprintf(stderr, "%s: cannot be read\n", argv[1]);
        return 1;
    }
    status = snn_original_size(in, in_len, &size);
    if (status == SNN_OK && (out = malloc(size + 1)) == NULL) status = SNN_NO_ROOM;
    if (status == SNN_OK) status = snn_expand(in, in_len, out, size, &out_len);
    if (status != SNN_OK)
        fprintf(stderr, "%s: %s\n", argv[1], snn_message(status));
    else if (!(done = snn_write_file(argv[2], out, out_len)))
        fprintf(stderr, "%s: cannot be written\n", argv[2]);
    free(out);
    free(in);
    return done ? 0 : 1;
}

#endif
