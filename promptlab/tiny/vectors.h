/* Numbers by the vector, and products of matrices, for what is compiled for the processor at hand. All are float32. */

#include <math.h>
#include <stdint.h>
#include <string.h>
#if defined __AVX512F__ || defined __FMA__
#include <immintrin.h>
#elif defined __aarch64__
#include <arm_neon.h>
#endif

/* How many numbers the processor takes at a time, and how many such vectors its registers hold: those of a tile of a
   product, of sums that a token's values are added to. A compiler makes poor code of vectors that are wider. */
#if defined __AVX512F__
enum { WIDTH = 16, VECTORS = 4, ROWS = 6, SUMS = 4 };
#elif defined __AVX__
enum { WIDTH = 8, VECTORS = 2, ROWS = 6, SUMS = 2 };
#elif defined __aarch64__
enum { WIDTH = 4, VECTORS = 4, ROWS = 6, SUMS = 4 };
#else
enum { WIDTH = 4, VECTORS = 2, ROWS = 6, SUMS = 2 };
#endif

enum { PANEL = VECTORS * WIDTH };

typedef float vector __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));
typedef int32_t whole __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));
#define INLINE static inline __attribute__((always_inline))
#define NEVER_INLINE __attribute__((noinline)) /* what is long to compile, once */

/* ---- numbers */

INLINE vector load(const float *x) { return *(const vector *)x; }
INLINE void store(float *x, vector v) { *(vector *)x = v; }
INLINE vector all(float x) { return x - (vector){}; }

/* The same, read once: GCC would read it again for each of up to 4 products, and wait for that. */
INLINE vector held(vector v) {
#if defined __AVX__ && !defined __AVX512F__
    __asm__("" : "+x"(v));
#endif
    return v;
}

/* s + a v, rounded once where the processor can: a compiler left to choose may round otherwise in another loop. */
INLINE vector plus_each(vector s, vector a, vector v) {
#if defined __AVX512F__
    return (vector)_mm512_fmadd_ps((__m512)a, (__m512)v, (__m512)s);
#elif defined __FMA__
    return (vector)_mm256_fmadd_ps((__m256)a, (__m256)v, (__m256)s);
#elif defined __aarch64__
    return (vector)vfmaq_f32((float32x4_t)s, (float32x4_t)a, (float32x4_t)v);
#else
    return s + a * v;
#endif
}

INLINE vector plus(vector s, float a, vector v) { return plus_each(s, all(a), v); }

INLINE float sum(vector v) {
    float s[WIDTH];
    memcpy(s, &v, sizeof v);
    for (int half = WIDTH / 2; half; half /= 2)
        for (int i = 0; i < half; i++) s[i] += s[i + half];
    return s[0];
}

INLINE vector choose(whole where, vector a, vector b) { return (vector)((where & (whole)a) | (~where & (whole)b)); }

/* The larger and the smaller of two; b where either is NaN. */
#if defined __AVX512F__
INLINE vector larger(vector a, vector b) { return (vector)_mm512_max_ps((__m512)a, (__m512)b); }
INLINE vector smaller(vector a, vector b) { return (vector)_mm512_min_ps((__m512)a, (__m512)b); }
#elif defined __FMA__
INLINE vector larger(vector a, vector b) { return (vector)_mm256_max_ps((__m256)a, (__m256)b); }
INLINE vector smaller(vector a, vector b) { return (vector)_mm256_min_ps((__m256)a, (__m256)b); }
#else
INLINE vector larger(vector a, vector b) { return choose(a > b, a, b); }
INLINE vector smaller(vector a, vector b) { return choose(a < b, a, b); }
#endif

INLINE vector some(const float *x, int64_t n) { /* of n numbers, and minus infinity */
    if (n >= WIDTH) return load(x);
    vector v = all(-INFINITY);
    for (int i = 0; i < (int)n; i++) v[i] = x[i];
    return v;
}

INLINE float larger_of(float a, float b) { return a > b ? a : b; }

INLINE float largest_of(vector v) {
    float s[WIDTH];
    memcpy(s, &v, sizeof v);
    for (int half = WIDTH / 2; half; half /= 2)
        for (int i = 0; i < half; i++) s[i] = larger_of(s[i], s[i + half]);
    return s[0];
}

INLINE float largest(const float *x, int64_t n) {
    vector most = all(-INFINITY);
    for (int64_t i = 0; i < n; i += WIDTH) most = larger(some(x + i, n - i), most);
    return largest_of(most);
}

INLINE int64_t where(const float *x, int64_t n, float value) { /* the first place of it; the last where it is not */
    int64_t i = 0;
    while (i < n - 1 && x[i] != value) i++;
    return i;
}

/* e^x to 1.2e-7 of it for x from -87 to 88. After Cephes' expf (Moshier). */
INLINE vector power_within(vector bounded) {
    vector shifted = bounded * 1.44269504f + 12582912.0f; /* rounds: what is left of it are whole numbers */
    whole power = ((whole)shifted - 0x4B400000) << 23;
    vector n = shifted - 12582912.0f;
    vector r = bounded - n * 0.693359375f + n * 2.12194440e-4f;
    vector p = all(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    return (vector)((whole)p + power);
}

/* The same, as at these outside; NaN of NaN. */
INLINE vector exponential(vector x) {
    return power_within(larger(all(-87.0f), smaller(all(88.0f), x)));
}

/* The same of what is not much above 0. */
INLINE vector power_of(vector x) { return power_within(larger(all(-87.0f), x)); }

/* ---- products */

/* A matrix (K, N) lies in panels of columns, (N / PANEL, K, PANEL), as products read it; what is left over of the last
   is 0. */
typedef struct {
    const float *panels;
    int64_t inputs, outputs;
} Matrix;

/* How many columns that is on this processor. */
int64_t panel(void) { return PANEL; }

/* How many numbers it takes at a time. */
int64_t width(void) { return WIDTH; }

/* y (rows, columns) = x (rows, K) times `vectors` vectors of columns of w (K, N), or that much added to y. Of both x and
   w the steps from k to k + 1 are given, of x and y those from row to row, of w that from one panel to the next. */
INLINE void tile(int rows, int vectors, const float *x, int64_t x_row, int64_t x_step, const float *w, int64_t w_step,
                 int64_t w_panel, int64_t inputs, float *y, int64_t y_row, int add) {
    vector s[ROWS][8], v[8];
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 8
        for (int j = 0; j < vectors; j++) s[i][j] = (vector){};
    for (int64_t k = 0; k < inputs; k++) {
#pragma GCC unroll 8
        for (int j = 0; j < vectors; j++) {
            v[j] = load(w + j / VECTORS * w_panel + k * w_step + j % VECTORS * WIDTH);
            if (rows > 1) v[j] = held(v[j]);
        }
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++)
#pragma GCC unroll 8
            for (int j = 0; j < vectors; j++) s[i][j] = plus(s[i][j], x[i * x_row + k * x_step], v[j]);
    }
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 8
        for (int j = 0; j < vectors; j++) {
            float *to = y + i * y_row + j * WIDTH;
            if (add) s[i][j] += load(to);
            store(to, s[i][j]);
        }
}

INLINE void tiles(int rows, const float *x, int64_t x_row, int64_t x_step, const float *w, int64_t w_step,
                  int64_t inputs, float *y, int64_t y_row, int64_t columns, int add) {
    int64_t j = 0;
    for (; j + PANEL <= columns; j += PANEL)
        tile(rows, VECTORS, x, x_row, x_step, w + j, w_step, 0, inputs, y + j, y_row, add);
    for (; j + WIDTH <= columns; j += WIDTH)
        tile(rows, 1, x, x_row, x_step, w + j, w_step, 0, inputs, y + j, y_row, add);
    for (int i = 0; j < columns && i < rows; i++) { /* less than a vector */
        float last[WIDTH];
        memcpy(last, y + i * y_row + j, (columns - j) * sizeof(float));
        tile(1, 1, x + i * x_row, x_row, x_step, w + j, w_step, 0, inputs, last, WIDTH, add);
        memcpy(y + i * y_row + j, last, (columns - j) * sizeof(float));
    }
}

/* y (n, columns) = x (n, K) times w (K, columns), or that much added to y: by as many rows at a time as are alike many. */
INLINE void product(int64_t n, const float *x, int64_t x_row, int64_t x_step, const float *w, int64_t w_step,
                    int64_t inputs, float *y, int64_t y_row, int64_t columns, int add) {
    for (int64_t groups = (n + ROWS - 1) / ROWS; groups; groups--) {
        int64_t rows = (n + groups - 1) / groups;
        switch (rows) { /* each compiled by itself */
        case 6: tiles(6, x, x_row, x_step, w, w_step, inputs, y, y_row, columns, add); break;
        case 5: tiles(5, x, x_row, x_step, w, w_step, inputs, y, y_row, columns, add); break;
        case 4: tiles(4, x, x_row, x_step, w, w_step, inputs, y, y_row, columns, add); break;
        case 3: tiles(3, x, x_row, x_step, w, w_step, inputs, y, y_row, columns, add); break;
        case 2: tiles(2, x, x_row, x_step, w, w_step, inputs, y, y_row, columns, add); break;
        case 1: tiles(1, x, x_row, x_step, w, w_step, inputs, y, y_row, columns, add); break;
        }
        n -= rows, x += rows * x_row, y += rows * y_row;
    }
}

/* y (B, N) = x (B, K) times a matrix (K, N), or that much added to y. */
static NEVER_INLINE void multiply(int64_t n, const float *x, int64_t x_row, Matrix m, float *y, int64_t y_row, int add) {
    int64_t first = 0, K = m.inputs, next = PANEL * K;
    enum { ONE = 8 / VECTORS, TWO = 4 / VECTORS }; /* panels at a time of so many rows: else sums wait for each other */
    if (n == 1)
        for (; first + ONE * PANEL <= m.outputs; first += ONE * PANEL)
            tile(1, ONE * VECTORS, x, 0, 1, m.panels + first * K, PANEL, next, K, y + first, 0, add);
    if (n == 2 && TWO > 1)
        for (; first + TWO * PANEL <= m.outputs; first += TWO * PANEL)
            tile(2, TWO * VECTORS, x, x_row, 1, m.panels + first * K, PANEL, next, K, y + first, y_row, add);
    for (; first < m.outputs; first += PANEL) {
        int64_t columns = m.outputs - first < PANEL ? m.outputs - first : PANEL;
        product(n, x, x_row, 1, m.panels + first * K, PANEL, K, y + first, y_row, columns, add);
    }
}
