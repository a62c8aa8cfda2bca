/* net.c for a page: `make web` compiles it to net.wasm, which index.html loads. */
#include "net.c"

static uint8_t web_pixels[(size_t)NET_HEIGHT * NET_WIDTH * NET_CHANNELS];
static float web_logits[NET_CLASSES];

__attribute__((export_name("pixels"))) uint8_t *web_pixels_at(void)
{
    return web_pixels;
}

__attribute__((export_name("logits"))) float *web_logits_at(void)
{
    return web_logits;
}

__attribute__((export_name("run"))) int web_run(void)
{
    return net_run_u8(web_pixels, web_logits);
}
