/* exp(x) / sum exp(x) */
static void net_softmax(const float *x, float *y, int n)
{
    float largest = x[0], sum = 0.0f;
    int c;
    for (c = 1; c < n; ++c) {
        largest = x[c] > largest ? x[c] : largest;
    }
    for (c = 0; c < n; ++c) {
        y[c] = expf(x[c] - largest);
        sum += y[c];
    }
    for (c = 0; c < n; ++c) {
        y[c] /= sum;
    }
}
