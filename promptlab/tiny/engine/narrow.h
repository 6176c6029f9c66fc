/* Products with matrices of fewer bits a number, which become float32 as they are read. Each sum is taken in the same
   order, however many rows there are. */

/* A matrix (K, N) in panels of columns. With 32 bits they are (N / PANEL, K, PANEL) floats. With fewer, (N / PANEL,
   K bits / 32, PANEL) times 32 of them: the upper halves of two floats below each other, the first in the lower half, or
   four whole numbers, the first in the lowest byte, to be multiplied by `scales` (N, and more up to a whole panel;
   with 16 bits they mean nothing). K is a multiple of 4. */
typedef struct {
    const void *panels;
    int64_t inputs, outputs, bits;
    const float *scales;
} Weight;

enum { AT_ONCE = 8 * ROWS }; /* rows whose sums are scaled at a time */

/* Numbers in place p of a vector of 32 bits. */
INLINE vector widened(int bits, const int32_t *packed, int p) {
    whole all_of_it = *(const whole *)packed;
    if (bits == 16) return p ? (vector)(all_of_it & (int32_t)0xFFFF0000) : (vector)(all_of_it << 16);
    return __builtin_convertvector(all_of_it << (24 - 8 * p) >> 24, vector);
}

/* Sums of whole numbers times their scales, and y if it is to be added to. */
INLINE vector scaled(vector s, const float *scales, const float *y, int add) {
    if (add) return plus_each(load(y), s, load(scales));
    return s * load(scales);
}

/* As `tile`, of a panel of fewer bits: widened where it is used. */
INLINE void narrow_tile(int bits, int rows, int vectors, const float *x, int64_t x_row, const int32_t *w,
                        int64_t w_panel, const float *scales, int64_t inputs, float *y, int64_t y_row, int add) {
    vector s[ROWS][8], v[8];
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 8
        for (int j = 0; j < vectors; j++) s[i][j] = (vector){};
    for (int64_t k = 0; k < inputs; k += 32 / bits, w += PANEL)
#pragma GCC unroll 4
        for (int p = 0; p < 32 / bits; p++) {
#pragma GCC unroll 8
            for (int j = 0; j < vectors; j++)
                v[j] = widened(bits, w + j / VECTORS * w_panel + j % VECTORS * WIDTH, p);
#pragma GCC unroll 8
            for (int i = 0; i < rows; i++)
#pragma GCC unroll 8
                for (int j = 0; j < vectors; j++) s[i][j] = plus(s[i][j], x[i * x_row + k + p], v[j]);
        }
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 8
        for (int j = 0; j < vectors; j++) {
            float *to = y + i * y_row + j * WIDTH;
            if (bits == 8) s[i][j] = scaled(s[i][j], scales + j * WIDTH, to, add);
            else if (add) s[i][j] += load(to);
            store(to, s[i][j]);
        }
}

/* A panel of fewer bits as one of floats (K, PANEL): for many rows it is widened once. */
INLINE void widen(int bits, const int32_t *packed, int64_t inputs, float *panel) {
    for (int64_t k = 0; k < inputs; k += 32 / bits, packed += PANEL)
        for (int p = 0; p < 32 / bits; p++, panel += PANEL)
            for (int j = 0; j < PANEL; j += WIDTH) store(panel + j, widened(bits, packed + j, p));
}

/* As `product`, by a panel of whole numbers. */
INLINE void scaled_product(int64_t n, const float *x, int64_t x_row, const float *panel, const float *scales,
                           int64_t inputs, float *y, int64_t y_row, int64_t columns, int add) {
    float sums[AT_ONCE * PANEL];
    for (; n > 0; n -= AT_ONCE, x += AT_ONCE * x_row, y += AT_ONCE * y_row) {
        int64_t rows = n < AT_ONCE ? n : AT_ONCE;
        product(rows, x, x_row, 1, panel, PANEL, inputs, sums, PANEL, PANEL, 0);
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < columns; j += WIDTH) {
                float *to = y + i * y_row + j, last[WIDTH];
                vector s = load(sums + i * PANEL + j);
                if (columns - j >= WIDTH) {
                    store(to, scaled(s, scales + j, to, add));
                } else { /* less than a vector */
                    size_t left = (columns - j) * sizeof(float);
                    memcpy(last, to, left);
                    store(last, scaled(s, scales + j, last, add));
                    memcpy(to, last, left);
                }
            }
    }
}

INLINE void multiply_narrow(int bits, int64_t n, const float *x, int64_t x_row, Weight m, float *y, int64_t y_row,
                            int add) {
    enum { ONE = 8 / VECTORS, MANY = 5 }; /* panels at a time of one row, and rows for which it pays to widen a panel */
    int64_t first = 0, K = m.inputs, next = PANEL * K * bits / 32;
    const int32_t *w = m.panels;
    if (n == 1)
        for (; first + ONE * PANEL <= m.outputs; first += ONE * PANEL, w += ONE * next)
            narrow_tile(bits, 1, 8, x, 0, w, next, m.scales + first, K, y + first, 0, add);
    for (; first < m.outputs; first += PANEL, w += next) {
        int64_t columns = m.outputs - first < PANEL ? m.outputs - first : PANEL;
        if (n < MANY && columns == PANEL) {
            switch (n) { /* each compiled by itself */
            case 4: narrow_tile(bits, 4, VECTORS, x, x_row, w, 0, m.scales + first, K, y + first, y_row, add); break;
            case 3: narrow_tile(bits, 3, VECTORS, x, x_row, w, 0, m.scales + first, K, y + first, y_row, add); break;
            case 2: narrow_tile(bits, 2, VECTORS, x, x_row, w, 0, m.scales + first, K, y + first, y_row, add); break;
            case 1: narrow_tile(bits, 1, VECTORS, x, x_row, w, 0, m.scales + first, K, y + first, y_row, add); break;
            }
        } else {
            float panel[PANEL * K];
            widen(bits, w, K, panel);
            if (bits == 8) scaled_product(n, x, x_row, panel, m.scales + first, K, y + first, y_row, columns, add);
            else product(n, x, x_row, 1, panel, PANEL, K, y + first, y_row, columns, add);
        }
    }
}

#include "amx.h"

/* y (B, N) = x (B, K) times a matrix (K, N), or that much added to y. */
static NEVER_INLINE void multiply_by(int64_t n, const float *x, int64_t x_row, Weight m, float *y, int64_t y_row,
                                     int add) {
    if (m.bits == 8) multiply_narrow(8, n, x, x_row, m, y, y_row, add);
    else if (m.bits == 16 && has_tiles && m.inputs % DEEP == 0) multiply_tiled(n, x, x_row, m, y, y_row, add);
    else if (m.bits == 16) multiply_narrow(16, n, x, x_row, m, y, y_row, add);
    else multiply(n, x, x_row, (Matrix){m.panels, m.inputs, m.outputs}, y, y_row, add);
}
