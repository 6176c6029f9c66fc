/* Products with matrices of bfloat16 by the tiles of a processor that has them (Intel's AMX): those of 16 rows with 16
   columns, of 32 inputs at a time, take it as long as 16 of vectors. A row's float32 numbers are given as three of bfloat16
   that sum to each, so that nothing is rounded but sums. Those are taken in the same order, however many rows there are,
   though not in that of `narrow.h`. */

#if defined __AMX_BF16__ && defined __AVX512BF16__ && defined __linux__
#include <sys/syscall.h>
#include <unistd.h>

enum { TILE = 16, DEEP = 2 * TILE }; /* rows of a tile, or columns of 32 bits; columns of bfloat16 */
enum { PIECES = 3, PART = 96 };      /* numbers that sum to one; rows that are in pieces at a time */

typedef uint16_t Pieces[PIECES][TILE][DEEP]; /* of 32 inputs of 16 rows */

static int has_tiles; /* whether the system lets this process use them */

__attribute__((constructor)) static void ask_for_tiles(void) {
    enum { REQUEST = 0x1023, TILES = 18 }; /* ARCH_REQ_XCOMP_PERM, XFEATURE_XTILE_DATA */
    has_tiles = !syscall(SYS_arch_prctl, REQUEST, TILES);
}

/* Until they are released: others may use tiles of other shapes. */
static void take_tiles(void) {
    struct {
        uint8_t palette, start, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } shapes = {.palette = 1};
    for (int i = 0; i < 8; i++) shapes.bytes[i] = 4 * TILE, shapes.rows[i] = TILE;
    _tile_loadconfig(&shapes);
}

/* What is left of numbers without some of bfloat16. */
INLINE __m512 without(__m512 x, __m256i piece) {
    return x - (__m512)_mm512_slli_epi32(_mm512_cvtepu16_epi32(piece), 16);
}

/* 32 numbers of a row: the nearest of bfloat16, the nearest to what is left, and to what is left of that. */
INLINE void in_pieces(const float *x, uint16_t *piece) {
    __m512 first = _mm512_loadu_ps(x), second = _mm512_loadu_ps(x + WIDTH);
#pragma GCC unroll 4
    for (int p = 0; p < PIECES; p++, piece += TILE * DEEP) {
        __m512i both = (__m512i)_mm512_cvtne2ps_pbh(second, first);
        _mm512_storeu_si512(piece, both);
        first = without(first, _mm512_castsi512_si256(both));
        second = without(second, _mm512_extracti64x4_epi64(both, 1));
    }
}

/* The sums of 16 rows with a panel: four tiles, one behind the other. */
INLINE void tile_sums(const Pieces *x, const int32_t *panel, int64_t inputs, float *sums) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t k = 0; k < inputs; k += DEEP, x++, panel += TILE * PANEL)
#pragma GCC unroll 4
        for (int p = 0; p < PIECES; p++) {
            _tile_loadd(4, (*x)[p], 2 * DEEP);
            _tile_loadd(6, panel, 4 * PANEL);
            _tile_dpbf16ps(0, 4, 6);
            _tile_loadd(7, panel + TILE, 4 * PANEL);
            _tile_dpbf16ps(1, 4, 7);
            _tile_loadd(6, panel + 2 * TILE, 4 * PANEL);
            _tile_dpbf16ps(2, 4, 6);
            _tile_loadd(7, panel + 3 * TILE, 4 * PANEL);
            _tile_dpbf16ps(3, 4, 7);
        }
    _tile_stored(0, sums, 4 * TILE);
    _tile_stored(1, sums + TILE * TILE, 4 * TILE);
    _tile_stored(2, sums + 2 * TILE * TILE, 4 * TILE);
    _tile_stored(3, sums + 3 * TILE * TILE, 4 * TILE);
}

/* A tile's sums become so many rows and columns of y, or are added to them. */
INLINE void put(const float *sums, int64_t rows, int64_t columns, float *y, int64_t y_row, int add) {
    __mmask16 there = columns < TILE ? (1 << columns) - 1 : 0xFFFF;
    for (int64_t i = 0; i < rows; i++, sums += TILE, y += y_row) {
        vector s = load(sums);
        if (add) s += (vector)_mm512_maskz_loadu_ps(there, y);
        _mm512_mask_storeu_ps(y, there, (__m512)s);
    }
}

/* As `multiply_narrow`, of 16 bits; K is a multiple of 32. */
static NEVER_INLINE void multiply_tiled(int64_t n, const float *x, int64_t x_row, Weight m, float *y, int64_t y_row,
                                        int add) {
    int64_t K = m.inputs, steps = K / DEEP, most = n < PART ? n : PART;
    Pieces in[(most + TILE - 1) / TILE * steps] __attribute__((aligned(64)));
    float sums[TILE * PANEL] __attribute__((aligned(64)));
    take_tiles();
    for (int64_t part; n > 0; n -= part, x += part * x_row, y += part * y_row) {
        part = n < PART ? n : PART;
        for (int64_t i = 0; i < part; i++)
            for (int64_t k = 0; k < steps; k++)
                in_pieces(x + i * x_row + k * DEEP, in[i / TILE * steps + k][0][i % TILE]);
        const int32_t *panel = m.panels;
        for (int64_t first = 0; first < m.outputs; first += PANEL, panel += PANEL * K / 2)
            for (int64_t i = 0; i < part; i += TILE) {
                tile_sums(in + i / TILE * steps, panel, K, sums);
                float *to = y + i * y_row;
                for (int64_t t = 0, j = first; t < PANEL / TILE && j < m.outputs; t++, j += TILE)
                    put(sums + t * TILE * TILE, part - i < TILE ? part - i : TILE, m.outputs - j, to + j, y_row, add);
            }
    }
    _tile_release();
}
#else
enum { has_tiles = 0, DEEP = 1 };
static void multiply_tiled(int64_t n, const float *x, int64_t x_row, Weight m, float *y, int64_t y_row, int add) {}
#endif

/* Whether matrices of bfloat16 are multiplied by tiles on this processor. */
int64_t by_tiles(void) { return has_tiles; }
