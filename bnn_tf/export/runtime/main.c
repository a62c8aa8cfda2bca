#ifdef NET_MAIN
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* Reads the next number of a PPM header, over comments. */
static int net_number(FILE *file)
{
    int c = fgetc(file), value = 0;
    while (c == ' ' || c == '\n' || c == '\r' || c == '\t' || c == '#') {
        if (c == '#') {
            while (c != '\n' && c != EOF) {
                c = fgetc(file);
            }
        }
        c = fgetc(file);
    }
    if (c < '0' || c > '9') {
        return -1;
    }
    for (; c >= '0' && c <= '9' && value < 1000000; c = fgetc(file)) {
        value = 10 * value + (c - '0');
    }
    return value;
}

/* Reads an image of the network's size: a PPM or PGM (P6, P5), or the raw bytes. Returns 0 if it is one. */
static int net_read(const char *path, uint8_t *pixels)
{
    const size_t size = (size_t)NET_HEIGHT * NET_WIDTH * NET_CHANNELS;
    FILE *const file = fopen(path, "rb");
    char magic[2];
    int wrong = 1;
    if (file == NULL) {
        fprintf(stderr, "cannot open %s\n", path);
        return 1;
    }
    if (fread(magic, 1, 2, file) == 2) {
        if (magic[0] == 'P' && (magic[1] == '6' || magic[1] == '5')) {
            const int channels = magic[1] == '6' ? 3 : 1;
            const int width = net_number(file), height = net_number(file), range = net_number(file);
            wrong = width != NET_WIDTH || height != NET_HEIGHT || channels != NET_CHANNELS || range != 255;
            wrong = wrong || fread(pixels, 1, size, file) != size;
        } else {
            rewind(file);
            wrong = fread(pixels, 1, size, file) != size || fgetc(file) != EOF;
        }
    }
    fclose(file);
    if (wrong) {
        fprintf(stderr, "%s: expected a PPM or PGM of %d x %d pixels and %d channels, or %lu raw bytes\n", path,
                NET_WIDTH, NET_HEIGHT, NET_CHANNELS, (unsigned long)size);
    }
    return wrong;
}

/* Seconds; clock() would add up what all threads take. */
static double net_seconds(void)
{
#if NET_THREADS > 1
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
#else
    return (double)clock() / (double)CLOCKS_PER_SEC;
#endif
}

static int net_by_time(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void net_usage(FILE *to, const char *program)
{
    fprintf(to, "usage: %s IMAGE.ppm... | -b [RUNS] | -h\n", program);
    fprintf(to, "  IMAGE.ppm  %d x %d pixels, or a file with their bare bytes: prints the five classes\n", NET_WIDTH, NET_HEIGHT);
    fprintf(to, "             with the largest outputs, which are logits unless the network ends in a softmax\n");
    fprintf(to, "  -b [RUNS]  measures the time of one image, in RUNS runs\n");
}

/* net IMAGE... prints the top classes of each image; net -b [RUNS] times. */
int main(int argc, char **argv)
{
    static uint8_t pixels[(size_t)NET_HEIGHT * NET_WIDTH * NET_CHANNELS];
    static float logits[NET_CLASSES];
    static double times[1001];
    int i, failed = 0;
    if (argc < 2) {
        net_usage(stderr, argv[0]);
        return 2;
    }
    if (argv[1][0] == '-' && (argv[1][1] == 'h' || strcmp(argv[1], "--help") == 0)) {
        net_usage(stdout, argv[0]);
        return 0;
    }
    if (argv[1][0] == '-' && argv[1][1] == 'b') {
        int runs = argc > 2 ? atoi(argv[2]) : 51;
        runs = runs < 1 ? 1 : (runs > 1000 ? 1000 : runs);
        for (i = 0; i < (int)sizeof pixels; ++i) {
            pixels[i] = (uint8_t)(i * 37 + i / 251);
        }
        for (i = -1; i < runs; ++i) {
            const double start = net_seconds();
            net_run_u8(pixels, logits NET_OTHERS);
            times[i < 0 ? 0 : i] = 1e3 * (net_seconds() - start);
        }
        qsort(times, (size_t)runs, sizeof times[0], net_by_time);
        printf("%d runs, %d thread(s): median %.3f ms, fastest %.3f ms\n", runs, NET_THREADS, times[runs / 2], times[0]);
        return 0;
    }
    for (i = 1; i < argc; ++i) {
        int rank;
        if (net_read(argv[i], pixels) != 0) {
            failed = 1;
            continue;
        }
        net_run_u8(pixels, logits NET_OTHERS);
        printf("%s:", argv[i]);
        for (rank = 0; rank < 5 && rank < NET_CLASSES; ++rank) {
            int c, best = -1;
            for (c = 0; c < NET_CLASSES; ++c) {
                if (logits[c] > -3e38f && (best < 0 || logits[c] > logits[best])) {
                    best = c;
                }
            }
            if (best < 0) {
                break;
            }
            printf("%s %s (output %.4g)", rank > 0 ? "," : "", net_class_names[best % NET_LABELS], (double)logits[best]);
            logits[best] = -3.4e38f;
        }
        printf("\n");
    }
    return failed;
}
#endif
