/* The window of a region, for a kernel of `columns` taps a row and `depth` elements a tap. */
static net_window net_window_of(const net_region *r, const net_geometry *g, int columns, int depth)
{
    net_window w;
    const int joined = g->dilation_x == 1 && g->pixel == depth;
    w.rows = r->rows;
    w.taps = joined ? 1 : r->columns;
    w.length = joined ? r->columns * depth : depth;
    w.row = (size_t)g->dilation_y * (size_t)g->in_width * (size_t)g->pixel;
    w.tap = (size_t)g->dilation_x * (size_t)g->pixel;
    w.weight_row = (size_t)(columns * depth);
    w.weight_tap = (size_t)depth;
    w.weight = (size_t)r->row * w.weight_row + (size_t)r->column * w.weight_tap;
    return w;
}
