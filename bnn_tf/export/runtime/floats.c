/* Filters of float values. */
#define NET_FLOATS_AT(f, v) NET_FLOAT_LOAD((f) + NET_FLOATS * (v))

NET_DOT_FUNCTIONS(net_dot, float, NET_FLOATS_AT)
