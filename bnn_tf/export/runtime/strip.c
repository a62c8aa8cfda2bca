/* Places up to `limit` (4 or 6) pixels of a region, from number `first` on; returns how many there are. */
static int net_strip(const net_region *r, const net_geometry *g, int first, int limit, size_t *at, size_t *from)
{
    const int pixels = (int)r->height * (int)r->width;
    const int count = pixels - first < limit ? pixels - first : limit;
    int j, y = first / r->width, x = first % r->width;
    for (j = 0; j < count; ++j) {
        const int row = (r->y + y) * g->stride_y - g->before_y + r->row * g->dilation_y;
        const int column = (r->x + x) * g->stride_x - g->before_x + r->column * g->dilation_x;
        at[j] = (size_t)((r->y + y) * g->out_width + r->x + x);
        from[j] = r->rows * r->columns == 0 ? 0 : (size_t)(row * g->in_width + column) * (size_t)g->pixel;
        if (++x == r->width) {
            x = 0;
            ++y;
        }
    }
    for (j = count; j < limit; ++j) {
        at[j] = at[count - 1];
        from[j] = from[count - 1];
    }
    return count;
}
