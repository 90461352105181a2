// The operations of programs (kernels/ir): what generated device code calls. Results and faults are those of kernels/ir/src/scalar.rs,
// bit for bit. Compiles as CUDA C++ and as plain C++17 with GNU extensions; a test runs both the native code and this.
//
// Floats: every operation is rounded once (no contraction), nothing is flushed to zero.
#pragma once
#include "ctx.cuh"

typedef unsigned char rf_u8;
typedef u16 rf_u16;
typedef u32 rf_u32;
typedef u64 rf_u64;
typedef unsigned __int128 rf_u128;
typedef signed char rf_i8;
typedef short rf_i16;
typedef int rf_i32;
typedef int64_t rf_i64;
typedef __int128 rf_i128;

#if defined(__CUDACC__)
#define RF_ON_DEVICE(device, host) device
#else
#define RF_ON_DEVICE(device, host) host
#endif

template <class T, u32 N> struct rf_array {
    T at[N];
};

// U: the same width without sign; W: at least 32 bits, for arithmetic without promotion to int.
template <class T> struct rf_int;
#define RF_INT(T, UNSIGNED, WIDE, WIDTH, SIGN)                                                                                \
    template <> struct rf_int<T> {                                                                                            \
        typedef UNSIGNED U;                                                                                                   \
        typedef WIDE W;                                                                                                       \
        static constexpr u32 BITS = WIDTH;                                                                                    \
        static constexpr bool SIGNED = SIGN;                                                                                  \
        static constexpr T MOST = SIGN ? (T)((UNSIGNED) ~(UNSIGNED)0 >> 1) : (T) ~(UNSIGNED)0;                                \
        static constexpr T LEAST = (T)((UNSIGNED)~(UNSIGNED)0 - (UNSIGNED)MOST);                                              \
    };
RF_INT(rf_u8, rf_u8, u32, 8, false)
RF_INT(rf_u16, rf_u16, u32, 16, false)
RF_INT(rf_u32, rf_u32, u32, 32, false)
RF_INT(rf_u64, rf_u64, u64, 64, false)
RF_INT(rf_u128, rf_u128, rf_u128, 128, false)
RF_INT(rf_i8, rf_u8, u32, 8, true)
RF_INT(rf_i16, rf_u16, u32, 16, true)
RF_INT(rf_i32, rf_u32, u32, 32, true)
RF_INT(rf_i64, rf_u64, u64, 64, true)
RF_INT(rf_i128, rf_u128, rf_u128, 128, true)
#undef RF_INT
#define RF_TYPES                                                                                                              \
    typedef rf_int<T> I;                                                                                                      \
    typedef typename I::U U;                                                                                                  \
    typedef typename I::W W;                                                                                                  \
    (void)sizeof(U);                                                                                                          \
    (void)sizeof(W)

// Bits of floats.
RF_FN u32 rf_bits(float a) { return RF_ON_DEVICE(__float_as_uint(a), __builtin_bit_cast(u32, a)); }
RF_FN u64 rf_bits(double a) { return RF_ON_DEVICE((u64)__double_as_longlong(a), __builtin_bit_cast(u64, a)); }
RF_FN float rf_f32(u32 a) { return RF_ON_DEVICE(__uint_as_float(a), __builtin_bit_cast(float, a)); }
RF_FN double rf_f64(u64 a) { return RF_ON_DEVICE(__longlong_as_double((long long)a), __builtin_bit_cast(double, a)); }
template <class To> RF_FN To rf_to_bits(float a) { return a != a ? 0x7fc00000u : rf_bits(a); }
template <class To> RF_FN To rf_to_bits(double a) { return a != a ? 0x7ff8000000000000ull : rf_bits(a); }
template <class To> RF_FN To rf_from_bits(u32 a) { return rf_f32(a); }
template <class To> RF_FN To rf_from_bits(u64 a) { return rf_f64(a); }
RF_FN float rf_canon(float a) { return a != a ? rf_f32(0x7fc00000u) : a; }
RF_FN double rf_canon(double a) { return a != a ? rf_f64(0x7ff8000000000000ull) : a; }

// The compiler knows nothing of these bits but that they are there. NVRTC 13.0 takes `a < 0 ? 0 - a : a`, however it is written, for a number
// that is never negative, and leaves out what is done for the least one.
RF_FN u32 rf_opaque(u32 a) { asm("" : "+r"(a)); return a; }
RF_FN u64 rf_opaque(u64 a) { asm("" : RF_ON_DEVICE("+l", "+r")(a)); return a; }
RF_FN rf_u128 rf_opaque(rf_u128 a) { return (rf_u128)rf_opaque((u64)(a >> 64)) << 64 | (u64)a; }

// Arithmetic of integers. The result is the lower bits; what is returned is the fault of the checked operation.
template <class T> RF_FN T rf_wrapping_add(T a, T b) { RF_TYPES; return (T)((W)a + (W)b); }
template <class T> RF_FN T rf_wrapping_sub(T a, T b) { RF_TYPES; return (T)((W)a - (W)b); }
template <class T> RF_FN T rf_wrapping_mul(T a, T b) { RF_TYPES; return (T)((W)a * (W)b); }
template <class T> RF_FN T rf_wrapping_neg(T a) { RF_TYPES; return (T)rf_opaque((W)0 - (W)a); }
template <class T> RF_FN T rf_wrapping_abs(T a) { return a < 0 ? rf_wrapping_neg(a) : a; }
template <class T> RF_FN T rf_wrapping_shl(T a, u32 by) { RF_TYPES; return (T)((W)(U)a << (by & (I::BITS - 1))); }
template <class T> RF_FN T rf_wrapping_shr(T a, u32 by) { RF_TYPES; return (T)(a >> (by & (I::BITS - 1))); }

template <class T> RF_FN u32 rf_add(T a, T b, T &out) {
    RF_TYPES;
    const U x = (U)a, y = (U)b, sum = (U)((W)x + (W)y);
    out = (T)sum;
    // Not `sum < x`: with it NVRTC 13.0 makes a saturating addition of a quotient and a maximum that saturates wrongly.
    const bool wrong = I::SIGNED ? (U)((x ^ sum) & (y ^ sum)) >> (I::BITS - 1) != 0 : y > (U)~x;
    return wrong ? FAULT_OVERFLOW : FAULT_NONE;
}
template <class T> RF_FN u32 rf_sub(T a, T b, T &out) {
    RF_TYPES;
    const U x = (U)a, y = (U)b, difference = (U)((W)x - (W)y);
    out = (T)difference;
    const bool wrong = I::SIGNED ? (U)((x ^ y) & (x ^ difference)) >> (I::BITS - 1) != 0 : x < y;
    return wrong ? FAULT_OVERFLOW : FAULT_NONE;
}
template <class T> RF_FN u32 rf_mul(T a, T b, T &out) {
    const rf_i128 product = (rf_i128)a * (rf_i128)b;
    out = (T)product;
    return (rf_i128)out == product ? FAULT_NONE : FAULT_OVERFLOW;
}
RF_FN u32 rf_mul(rf_u64 a, rf_u64 b, rf_u64 &out) {
    const rf_u128 product = (rf_u128)a * b;
    out = (rf_u64)product;
    return product >> 64 ? FAULT_OVERFLOW : FAULT_NONE;
}
RF_FN u32 rf_mul(rf_i32 a, rf_i32 b, rf_i32 &out) {
    const rf_i64 product = (rf_i64)a * b;
    out = (rf_i32)product;
    return out == product ? FAULT_NONE : FAULT_OVERFLOW;
}
RF_FN u32 rf_mul(rf_u32 a, rf_u32 b, rf_u32 &out) {
    const rf_u64 product = (rf_u64)a * b;
    out = (rf_u32)product;
    return product >> 32 ? FAULT_OVERFLOW : FAULT_NONE;
}
RF_FN u32 rf_mul(rf_u128 a, rf_u128 b, rf_u128 &out) {
    const u64 a1 = (u64)(a >> 64), b1 = (u64)(b >> 64), a0 = (u64)a, b0 = (u64)b;
    out = a * b;
    if (a1 != 0 && b1 != 0) return FAULT_OVERFLOW;
    const rf_u128 cross = a1 != 0 ? (rf_u128)a1 * b0 : (rf_u128)a0 * b1;
    return cross >> 64 || out < cross << 64 ? FAULT_OVERFLOW : FAULT_NONE;
}
RF_FN u32 rf_mul(rf_i128 a, rf_i128 b, rf_i128 &out) {
    const bool negative = (a < 0) != (b < 0);
    const rf_u128 x = (rf_u128)rf_wrapping_abs(a), y = (rf_u128)rf_wrapping_abs(b);
    rf_u128 product;
    const u32 fault = rf_mul(x, y, product);
    out = (rf_i128)(negative ? rf_wrapping_neg(product) : product);
    if (fault != FAULT_NONE) return fault;
    return product > (rf_u128)rf_int<rf_i128>::MOST + (negative ? 1 : 0) ? FAULT_OVERFLOW : FAULT_NONE;
}

// Faults of a division, before it is made.
template <class T> RF_FN u32 rf_division(T a, T b) {
    RF_TYPES;
    if (b == 0) return FAULT_DIVIDE_BY_ZERO;
    return I::SIGNED && (U)b == (U)I::MOST + (U)I::MOST + 1 && a == I::LEAST ? FAULT_OVERFLOW : FAULT_NONE;
}
#define RF_DIVISION(name, result)                                                                                             \
    template <class T> RF_FN u32 name(T a, T b, T &out) {                                                                     \
        const u32 fault = rf_division(a, b);                                                                                  \
        if (fault != FAULT_NONE) {                                                                                            \
            out = 0;                                                                                                          \
            return fault;                                                                                                     \
        }                                                                                                                     \
        out = result;                                                                                                         \
        return FAULT_NONE;                                                                                                    \
    }
template <class T> RF_FN T rf_rem_of(T a, T b) {
    const T r = (T)(a % b);
    return r < 0 ? (T)(b < 0 ? rf_wrapping_sub(r, b) : rf_wrapping_add(r, b)) : r;
}
template <class T> RF_FN T rf_div_of(T a, T b) {
    const T q = (T)(a / b);
    if ((T)(a % b) < 0) return b > 0 ? rf_wrapping_sub(q, (T)1) : rf_wrapping_add(q, (T)1);
    return q;
}
RF_DIVISION(rf_div, (T)(a / b))
RF_DIVISION(rf_rem, (T)(a % b))
RF_DIVISION(rf_div_euclid, rf_div_of(a, b))
RF_DIVISION(rf_rem_euclid, rf_rem_of(a, b))
#undef RF_DIVISION

template <class T, class D> RF_FN u32 rf_shl(T a, D by, T &out) {
    RF_TYPES;
    if (by < 0 || (typename rf_int<D>::U)by >= I::BITS) {
        out = 0;
        return FAULT_OVERFLOW;
    }
    out = (T)((W)(U)a << (u32)by);
    return FAULT_NONE;
}
template <class T, class D> RF_FN u32 rf_shr(T a, D by, T &out) {
    RF_TYPES;
    if (by < 0 || (typename rf_int<D>::U)by >= I::BITS) {
        out = 0;
        return FAULT_OVERFLOW;
    }
    out = (T)(a >> (u32)by);
    return FAULT_NONE;
}
template <class T> RF_FN u32 rf_neg(T a, T &out) {
    RF_TYPES;
    out = rf_wrapping_neg(a);
    return (I::SIGNED ? a == I::LEAST : a != 0) ? FAULT_OVERFLOW : FAULT_NONE;
}
template <class T> RF_FN u32 rf_abs(T a, T &out) {
    out = rf_wrapping_abs(a);
    return a == rf_int<T>::LEAST ? FAULT_OVERFLOW : FAULT_NONE;
}
template <class T> RF_FN u32 rf_pow(T base, u32 exponent, T &out) {
    out = 1;
    if (exponent == 0) return FAULT_NONE;
    for (;;) {
        if (exponent & 1) {
            const u32 fault = rf_mul(out, base, out);
            if (fault != FAULT_NONE || exponent == 1) return fault;
        }
        exponent >>= 1;
        if (rf_mul(base, base, base) != FAULT_NONE) return FAULT_OVERFLOW;
    }
}
template <class T> RF_FN T rf_wrapping_pow(T base, u32 exponent) {
    T out = 1;
    for (; exponent != 0; exponent >>= 1) {
        if (exponent & 1) out = rf_wrapping_mul(out, base);
        base = rf_wrapping_mul(base, base);
    }
    return out;
}
template <class T> RF_FN T rf_saturating_add(T a, T b) {
    RF_TYPES;
    T out;
    if (rf_add(a, b, out) == FAULT_NONE) return out;
    return I::SIGNED && b < 0 ? I::LEAST : I::MOST;
}
template <class T> RF_FN T rf_saturating_sub(T a, T b) {
    RF_TYPES;
    T out;
    if (rf_sub(a, b, out) == FAULT_NONE) return out;
    return I::SIGNED && b < 0 ? I::MOST : I::LEAST;
}
template <class T> RF_FN T rf_saturating_mul(T a, T b) {
    RF_TYPES;
    T out;
    if (rf_mul(a, b, out) == FAULT_NONE) return out;
    return (a < 0) != (b < 0) ? I::LEAST : I::MOST;
}
template <class T> RF_FN T rf_saturating_pow(T a, u32 exponent) {
    RF_TYPES;
    T out;
    if (rf_pow(a, exponent, out) == FAULT_NONE) return out;
    return a < 0 && (exponent & 1) ? I::LEAST : I::MOST;
}
template <class T> RF_FN T rf_saturating_neg(T a) { return a == rf_int<T>::LEAST ? rf_int<T>::MOST : rf_wrapping_neg(a); }
template <class T> RF_FN T rf_saturating_abs(T a) { return a < 0 ? rf_saturating_neg(a) : a; }

// Arithmetic of floats: one rounding each, no faults.
#define RF_FLOAT(F, add, sub, mul, div, root, f)                                                                              \
    RF_FN u32 rf_add(F a, F b, F &out) { return out = RF_ON_DEVICE(add(a, b), a + b), FAULT_NONE; }                           \
    RF_FN u32 rf_sub(F a, F b, F &out) { return out = RF_ON_DEVICE(sub(a, b), a - b), FAULT_NONE; }                           \
    RF_FN u32 rf_mul(F a, F b, F &out) { return out = RF_ON_DEVICE(mul(a, b), a * b), FAULT_NONE; }                           \
    RF_FN u32 rf_div(F a, F b, F &out) { return out = RF_ON_DEVICE(div(a, b), a / b), FAULT_NONE; }                           \
    RF_FN u32 rf_rem(F a, F b, F &out) { return out = RF_ON_DEVICE(fmod##f(a, b), __builtin_fmod##f(a, b)), FAULT_NONE; }     \
    RF_FN u32 rf_neg(F a, F &out) { return out = -a, FAULT_NONE; }                                                            \
    RF_FN u32 rf_abs(F a, F &out) { return out = RF_ON_DEVICE(fabs##f(a), __builtin_fabs##f(a)), FAULT_NONE; }                \
    RF_FN F rf_sqrt(F a) { return RF_ON_DEVICE(root(a), __builtin_sqrt##f(a)); }                                              \
    RF_FN F rf_floor(F a) { return RF_ON_DEVICE(floor##f(a), __builtin_floor##f(a)); }                                        \
    RF_FN F rf_ceil(F a) { return RF_ON_DEVICE(ceil##f(a), __builtin_ceil##f(a)); }                                           \
    RF_FN F rf_round(F a) { return RF_ON_DEVICE(round##f(a), __builtin_round##f(a)); }                                        \
    RF_FN F rf_trunc(F a) { return RF_ON_DEVICE(trunc##f(a), __builtin_trunc##f(a)); }                                        \
    RF_FN u32 rf_div_euclid(F a, F b, F &out) {                                                                               \
        F quotient, rest, one = 1;                                                                                            \
        rf_div(a, b, quotient);                                                                                               \
        rf_rem(a, b, rest);                                                                                                   \
        out = rf_trunc(quotient);                                                                                             \
        if (rest < 0) return b > 0 ? rf_sub(out, one, out) : rf_add(out, one, out);                                           \
        return FAULT_NONE;                                                                                                    \
    }                                                                                                                         \
    RF_FN u32 rf_rem_euclid(F a, F b, F &out) {                                                                               \
        F size;                                                                                                               \
        rf_rem(a, b, out);                                                                                                    \
        rf_abs(b, size);                                                                                                      \
        return out < 0 ? rf_add(out, size, out) : FAULT_NONE;                                                                 \
    }                                                                                                                         \
    RF_FN F rf_min(F a, F b) { return b < a || a != a ? b : a; }                                                              \
    RF_FN F rf_max(F a, F b) { return b > a || a != a ? b : a; }                                                              \
    RF_FN bool rf_is_nan(F a) { return a != a; }                                                                              \
    RF_FN bool rf_is_finite(F a) { return a - a == 0; }                                                                       \
    RF_FN bool rf_is_infinite(F a) { return a == a && a - a != 0; }
RF_FLOAT(float, __fadd_rn, __fsub_rn, __fmul_rn, __fdiv_rn, __fsqrt_rn, f)
RF_FLOAT(double, __dadd_rn, __dsub_rn, __dmul_rn, __ddiv_rn, __dsqrt_rn, )
#undef RF_FLOAT
RF_FN float rf_copysign(float a, float b) { return rf_f32((rf_bits(a) & 0x7fffffffu) | (rf_bits(b) & 0x80000000u)); }
RF_FN double rf_copysign(double a, double b) {
    return rf_f64((rf_bits(a) & 0x7fffffffffffffffull) | (rf_bits(b) & 0x8000000000000000ull));
}
RF_FN float rf_signum(float a) { return a != a ? a : rf_copysign(1.0f, a); }
RF_FN double rf_signum(double a) { return a != a ? a : rf_copysign(1.0, a); }

template <class T> RF_FN u32 rf_clamp(T a, T low, T high, T &out) {
    if (!(low <= high)) {
        out = a;
        return FAULT_OUT_OF_BOUNDS;
    }
    out = a;
    if (out < low) out = low;
    if (out > high) out = high;
    return FAULT_NONE;
}

template <class T> RF_FN T rf_and(T a, T b) { return (T)(a & b); }
template <class T> RF_FN T rf_or(T a, T b) { return (T)(a | b); }
template <class T> RF_FN T rf_xor(T a, T b) { return (T)(a ^ b); }
template <class T> RF_FN T rf_not(T a) { return (T)~a; }
RF_FN bool rf_not(bool a) { return !a; }
template <class T> RF_FN T rf_min(T a, T b) { return b < a ? b : a; }
template <class T> RF_FN T rf_max(T a, T b) { return b > a ? b : a; }
template <class To, class T> RF_FN To rf_abs_diff(T a, T b) {
    RF_TYPES;
    return a < b ? (To)rf_opaque((W)b - (W)a) : (To)((W)a - (W)b);
}
template <class To, class T> RF_FN To rf_unsigned_abs(T a) { return (To)rf_wrapping_abs(a); }
template <class T> RF_FN T rf_signum(T a) { return (T)((a > 0) - (a < 0)); }
template <class T> RF_FN bool rf_is_positive(T a) { return a > 0; }
template <class T> RF_FN bool rf_is_negative(T a) { return a < 0; }
template <class T> RF_FN T rf_rotate_left(T a, u32 by) {
    RF_TYPES;
    const u32 n = by & (I::BITS - 1);
    return n == 0 ? a : (T)((W)(U)a << n | (W)(U)a >> (I::BITS - n));
}
template <class T> RF_FN T rf_rotate_right(T a, u32 by) { return rf_rotate_left(a, rf_int<T>::BITS - (by & (rf_int<T>::BITS - 1))); }

RF_FN u32 rf_zeros(u64 a) { return a == 0 ? 64 : RF_ON_DEVICE((u32)__clzll((long long)a), (u32)__builtin_clzll(a)); }
RF_FN u32 rf_ones(u64 a) { return RF_ON_DEVICE((u32)__popcll(a), (u32)__builtin_popcountll(a)); }
template <class T> RF_FN u32 rf_leading_zeros(T a) {
    RF_TYPES;
    const U x = (U)a;
    if (I::BITS <= 64) return rf_zeros((u64)x) - (64 - I::BITS);
    const u64 upper = (u64)((rf_u128)x >> 64);
    return upper != 0 ? rf_zeros(upper) : 64 + rf_zeros((u64)x);
}
template <class T> RF_FN u32 rf_count_ones(T a) {
    RF_TYPES;
    const rf_u128 x = (U)a;
    return rf_ones((u64)x) + (I::BITS > 64 ? rf_ones((u64)(x >> 64)) : 0);
}
template <class T> RF_FN u32 rf_count_zeros(T a) { return rf_int<T>::BITS - rf_count_ones(a); }
template <class T> RF_FN u32 rf_trailing_zeros(T a) {
    RF_TYPES;
    // The bits below the lowest one.
    return rf_count_ones((U)(~(W)a & ((W)a - 1)));
}
template <class T> RF_FN u32 rf_leading_ones(T a) { return rf_leading_zeros((T)~a); }
template <class T> RF_FN u32 rf_trailing_ones(T a) { return rf_trailing_zeros((T)~a); }
template <class T> RF_FN bool rf_is_power_of_two(T a) { return rf_count_ones(a) == 1; }
template <class T> RF_FN T rf_swap_bytes(T a) {
    RF_TYPES;
    W from = (W)(U)a, out = 0;
    for (u32 at = 0; at < I::BITS; at += 8, from >>= 8) out = out << 8 | (from & 255);
    return (T)out;
}
template <class T> RF_FN T rf_reverse_bits(T a) {
    RF_TYPES;
    W from = (W)(U)a, out = 0;
    for (u32 at = 0; at < I::BITS; at++, from >>= 1) out = out << 1 | (from & 1);
    return (T)out;
}

// `as`: between integers the lower bits; from floats the nearest that fits, towards zero, and 0 for a NaN.
template <class To, class F> RF_FN To rf_from_float(F a) {
    typedef rf_int<To> I;
    const F half = (F)((typename I::W)1 << (I::BITS - 1)), end = I::SIGNED ? half : half * 2;
    if (a != a) return 0;
    if (a >= end) return I::MOST;
    if (I::SIGNED ? a <= -half : a <= 0) return I::LEAST;
    return (To)a;
}
template <class To> struct rf_cast_to {
    template <class T> RF_FN static To from(T a) { return (To)a; }
    RF_FN static To from(float a) { return rf_from_float<To>(a); }
    RF_FN static To from(double a) { return rf_from_float<To>(a); }
};
template <> struct rf_cast_to<float> {
    template <class T> RF_FN static float from(T a) { return (float)a; }
};
template <> struct rf_cast_to<double> {
    template <class T> RF_FN static double from(T a) { return (double)a; }
};
template <class To, class T> RF_FN To rf_cast(T a) { return rf_cast_to<To>::from(a); }
