/* Walks over the pixels of a region: where the next one lies in the output, and its window in the input. */
typedef struct {
    size_t at, from;           /* the next pixel */
    size_t step;               /* from one to the next of a row, in the input */
    size_t next_at, next_from; /* from the last one of a row to the first one of the next */
    int x, width;
} net_walk;

static net_walk net_walk_from(const net_region *r, const net_geometry *g, int first)
{
    net_walk walk;
    const int y = first / r->width, x = first % r->width;
    const int row = (r->y + y) * g->stride_y - g->before_y + r->row * g->dilation_y;
    const int column = (r->x + x) * g->stride_x - g->before_x + r->column * g->dilation_x;
    const int seen = r->rows * r->columns == 0 ? 0 : g->pixel; /* windows without taps lie at the start */
    walk.at = (size_t)((r->y + y) * g->out_width + r->x + x);
    walk.from = (size_t)(row * g->in_width + column) * (size_t)seen;
    walk.step = (size_t)g->stride_x * (size_t)seen;
    walk.next_at = (size_t)(g->out_width - r->width + 1);
    walk.next_from = (size_t)(g->stride_y * g->in_width - (r->width - 1) * g->stride_x) * (size_t)seen;
    walk.x = x;
    walk.width = r->width;
    return walk;
}

/* Places up to `limit` pixels, of which `left` are left; returns how many there are. The last one is repeated. */
NET_INLINE int net_strip(net_walk *walk, int left, int limit, size_t *at, size_t *from)
{
    int j;
    for (j = 0; j < limit; ++j) {
        at[j] = walk->at;
        from[j] = walk->from;
        if (j + 1 >= left) {
            continue;
        }
        if (++walk->x == walk->width) {
            walk->x = 0;
            walk->at += walk->next_at;
            walk->from += walk->next_from;
        } else {
            ++walk->at;
            walk->from += walk->step;
        }
    }
    return left < limit ? left : limit;
}
