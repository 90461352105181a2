// The functions of `ringfleet::math`, in the language of handlers: this text is what CPUs run and what becomes part of programs.
//
// All of it is additions, multiplications, divisions and bits, each rounded once, so that every device gives the same bits. There
// are no loops and nothing that faults. Where a double is not enough, a value is a sum of two, the second small against the first
// (T. J. Dekker, "A floating-point technique for extending the available precision", 1971); the constants are ln 2, pi / 2 and
// 2 / pi in pieces, and the terms of Taylor's series.

impl Math {
    fn exp(x: f64) -> f64 {
        if x.is_nan() { Self::nan() } else { Self::exp_of_sum(x, 0.0) }
    }

    fn ln(x: f64) -> f64 {
        if x.is_nan() || x < 0.0 {
            return Self::nan();
        }
        if x == 0.0 {
            return -Self::infinity();
        }
        if x == Self::infinity() {
            return x;
        }
        let (k, m) = Self::parts(x);
        // ln m = 2 artanh s = f - (h - s (h + series))
        let f = m - 1.0;
        let s = f / (2.0 + f);
        let z = s * s;
        let p = 0.08695652173913043;
        let p = 0.09523809523809523 + z * p;
        let p = 0.10526315789473684 + z * p;
        let p = 0.11764705882352941 + z * p;
        let p = 0.13333333333333333 + z * p;
        let p = 0.15384615384615385 + z * p;
        let p = 0.18181818181818182 + z * p;
        let p = 0.2222222222222222 + z * p;
        let p = 0.2857142857142857 + z * p;
        let p = 0.4 + z * p;
        let p = 0.6666666666666666 + z * p;
        let series = z * p;
        let h = 0.5 * f * f;
        k * 0.6931471804855391 - ((h - (s * (h + series) + k * 7.440617110012397e-11)) - f)
    }

    fn sin(x: f64) -> f64 {
        if !x.is_finite() {
            return Self::nan();
        }
        if x.abs() < 7.450580596923828e-9 {
            return x;
        }
        let (quarter, r, low) = Self::reduced(x.abs());
        let y = if quarter & 1 == 0 { Self::sin_of_sum(r, low) } else { Self::cos_of_sum(r, low) };
        if (quarter & 2 != 0) != (x < 0.0) { -y } else { y }
    }

    fn cos(x: f64) -> f64 {
        if !x.is_finite() {
            return Self::nan();
        }
        let (quarter, r, low) = Self::reduced(x.abs());
        let y = if quarter & 1 == 0 { Self::cos_of_sum(r, low) } else { Self::sin_of_sum(r, low) };
        if quarter.wrapping_add(1) & 2 != 0 { -y } else { y }
    }

    fn pow(x: f64, y: f64) -> f64 {
        if y == 0.0 || x == 1.0 {
            return 1.0;
        }
        if x.is_nan() || y.is_nan() {
            return Self::nan();
        }
        let size = y.abs();
        let whole = size.floor() == size;
        // From 2^53 on every number is even.
        let odd = whole && size < 9007199254740992.0 && (size as u64) & 1 == 1;
        let negative = odd && x.to_bits() >= 0x8000000000000000;
        let base = x.abs();
        let value = if base == 1.0 && !y.is_finite() {
            1.0
        } else if base == 0.0 || base == Self::infinity() {
            if (base == 0.0) == (y > 0.0) { 0.0 } else { Self::infinity() }
        } else if x < 0.0 && !whole {
            Self::nan()
        } else {
            let (high, low) = Self::ln_as_sum(base);
            // Beyond, nothing changes: the logarithm is at least 2^-53.
            let y = y.clamp(-18446744073709551616.0, 18446744073709551616.0);
            let (product, rest) = Self::product(y, high);
            Self::exp_of_sum(product, rest + y * low)
        };
        if negative { -value } else { value }
    }

    fn nan() -> f64 {
        f64::from_bits(0x7ff8000000000000)
    }

    fn infinity() -> f64 {
        f64::from_bits(0x7ff0000000000000)
    }

    // The nearest whole number, if it is less than 2^51: the sum has no bits behind the point.
    fn nearest(x: f64) -> f64 {
        (x + 6755399441055744.0) - 6755399441055744.0
    }

    // 2^k of a normal number.
    fn power_of_two(k: i64) -> f64 {
        f64::from_bits((k.wrapping_add(1023) as u64).wrapping_shl(52))
    }

    // a + b without error, as a sum.
    fn sum(a: f64, b: f64) -> (f64, f64) {
        let s = a + b;
        let back = s - a;
        (s, (a - (s - back)) + (b - back))
    }

    // a * b without error, as a sum: the halves of the factors have 26 bits.
    fn product(a: f64, b: f64) -> (f64, f64) {
        let p = a * b;
        let wide = 134217729.0 * a;
        let upper = wide - (wide - a);
        let lower = a - upper;
        let wide = 134217729.0 * b;
        let other_upper = wide - (wide - b);
        let other_lower = b - other_upper;
        (p, ((upper * other_upper - p) + upper * other_lower + lower * other_upper) + lower * other_lower)
    }

    // x = 2^k m for positive finite x, m from sqrt(1/2) to sqrt(2).
    fn parts(x: f64) -> (f64, f64) {
        let small = x < 2.2250738585072014e-308;
        let bits = if small { (x * 18014398509481984.0).to_bits() } else { x.to_bits() };
        let k = (bits.wrapping_shr(52) as i64).wrapping_sub(if small { 1077 } else { 1023 });
        let m = f64::from_bits(bits & 0x000fffffffffffff | 0x3ff0000000000000);
        if m > 1.4142135623730951 { (k.wrapping_add(1) as f64, 0.5 * m) } else { (k as f64, m) }
    }

    // e^(x + low)
    fn exp_of_sum(x: f64, low: f64) -> f64 {
        if x > 710.0 {
            return Self::infinity();
        }
        if x < -746.0 {
            return 0.0;
        }
        let k = Self::nearest(x * 1.4426950408889634);
        let high = x - k * 0.6931471804855391;
        let low = low - k * 7.440617110012397e-11;
        let r = high + low;
        let rest = (high - r) + low;
        let p = 1.6059043836821613e-10;
        let p = 2.08767569878681e-09 + r * p;
        let p = 2.505210838544172e-08 + r * p;
        let p = 2.755731922398589e-07 + r * p;
        let p = 2.7557319223985893e-06 + r * p;
        let p = 2.48015873015873e-05 + r * p;
        let p = 0.0001984126984126984 + r * p;
        let p = 0.001388888888888889 + r * p;
        let p = 0.008333333333333333 + r * p;
        let p = 0.041666666666666664 + r * p;
        let p = 0.16666666666666666 + r * p;
        let p = 0.5 + r * p;
        let series = r * r * p;
        let y = 1.0 + (r + (rest + rest * r + series));
        // In two steps: 2^k itself may be no normal number.
        let half = (k as i64).wrapping_shr(1);
        y * Self::power_of_two(half) * Self::power_of_two((k as i64).wrapping_sub(half))
    }

    // ln x of a positive finite x, with about 64 bits.
    fn ln_as_sum(x: f64) -> (f64, f64) {
        let (k, m) = Self::parts(x);
        let f = m - 1.0;
        let (d, d_low) = Self::sum(m, 1.0);
        let s = f / d;
        let (p, p_low) = Self::product(s, d);
        let s_low = (((f - p) - p_low) - s * d_low) / d;
        let (t, t_low) = Self::product(s, s);
        let t_low = t_low + 2.0 * s * s_low;
        let p = 0.043478260869565216;
        let p = 0.047619047619047616 + t * p;
        let p = 0.05263157894736842 + t * p;
        let p = 0.058823529411764705 + t * p;
        let p = 0.06666666666666667 + t * p;
        let p = 0.07692307692307693 + t * p;
        let p = 0.09090909090909091 + t * p;
        let p = 0.1111111111111111 + t * p;
        let p = 0.14285714285714285 + t * p;
        let p = 0.2 + t * p;
        let series = t * p;
        // 1/3 + series, times t: what a double would not hold of artanh s / s - 1.
        let (a, a_low) = Self::sum(0.3333333333333333, series);
        let a_low = a_low + 1.850371707708594e-17;
        let (u, u_low) = Self::product(t, a);
        let u_low = u_low + (t * a_low + t_low * a);
        let (w, w_low) = Self::product(2.0 * s, u);
        let w_low = w_low + 2.0 * (s * u_low + s_low * u);
        let (high, low) = Self::sum(2.0 * s, w);
        let low = low + (2.0 * s_low + w_low);
        let (high, rest) = Self::sum(k * 0.6931471804855391, high);
        Self::sum(high, rest + (low + k * 7.440617110012397e-11))
    }

    // x = (quarter + 4n) pi/2 + r + low, |r| at most about pi/4, for x that is not negative.
    fn reduced(x: f64) -> (u64, f64, f64) {
        if x <= 0.7853981633974483 {
            return (0, x, 0.0);
        }
        if x >= 1048576.0 {
            return Self::reduced_large(x);
        }
        // pi/2 in pieces of 33 bits, whose products with n have no error (W. J. Cody, W. Waite, 1980).
        let n = Self::nearest(x * 0.6366197723675814);
        let (a, a_low) = Self::sum(x - n * 1.5707963267341256, -(n * 6.077100506303966e-11));
        let (b, b_low) = Self::sum(a, -(n * 2.0222662487111665e-21));
        let (r, low) = Self::sum(b, a_low + (b_low - n * 8.4784276603689e-32));
        (n as u64, r, low)
    }

    // As `reduced`, by the bits of 2/pi that matter for this exponent (M. Payne, R. Hanek, 1983).
    fn reduced_large(x: f64) -> (u64, f64, f64) {
        let bits = x.to_bits();
        let m = (bits & 0x000fffffffffffff | 0x0010000000000000) as u128;
        // 192 bits of 2/pi: those before them give multiples of four quarters, those behind are less than 2^-137 of one.
        let table: [u64; 20] = [
            0, 0xa2f9836e4e441529, 0xfc2757d1f534ddc0, 0xdb6295993c439041, 0xfe5163abdebbc561,
            0xb7246e3a424dd2e0, 0x06492eea09d1921c, 0xfe1deb1cb129a73e, 0xe88235f52ebb4484, 0xe99c7026b45f7e41,
            0x3991d639835339f4, 0x9c845f8bbdf9283b, 0x1ff897ffde05980f, 0xef2f118b5a0a6d1f, 0x6d367ecf27cb09b7,
            0x4f463f669e5fea2d, 0x7527bac7ebe5f17b, 0x3d0739f78a5292ea, 0x6bfb5fb11f8d5d08, 0x56033046fc7b6bab,
        ];
        let at = bits.wrapping_shr(52).wrapping_sub(1013);
        let word = at.wrapping_shr(6) as usize;
        let by = (at & 63) as u32;
        let first = (table[word] as u128).wrapping_shl(64) | table[word.wrapping_add(1)] as u128;
        let second = (table[word.wrapping_add(1)] as u128).wrapping_shl(64) | table[word.wrapping_add(2)] as u128;
        let third = (table[word.wrapping_add(2)] as u128).wrapping_shl(64) | table[word.wrapping_add(3)] as u128;
        let low = m.wrapping_mul(third.wrapping_shl(by).wrapping_shr(64));
        let middle = m.wrapping_mul(second.wrapping_shl(by).wrapping_shr(64)).wrapping_add(low.wrapping_shr(64));
        let high = m.wrapping_mul(first.wrapping_shl(by).wrapping_shr(64)).wrapping_add(middle.wrapping_shr(64)) as u64;
        // Two bits of quarters, 128 behind the point.
        let upper = (high as u128).wrapping_shl(66) | (middle as u64 as u128).wrapping_shl(2);
        let fraction = upper | (low as u64 as u128).wrapping_shr(62);
        let above = fraction.wrapping_shr(127) == 1;
        let quarter = high.wrapping_shr(62).wrapping_add(above as u64);
        let fraction = if above { fraction.wrapping_neg() } else { fraction };
        let zeros = fraction.leading_zeros();
        let fraction = fraction.wrapping_shl(zeros);
        let scale = Self::power_of_two((-53_i64).wrapping_sub(zeros as i64));
        let a = fraction.wrapping_shr(75) as f64 * scale;
        let a_low = fraction.wrapping_shl(53).wrapping_shr(75) as f64 * (scale * 1.1102230246251565e-16);
        let (p, p_low) = Self::product(a, 1.5707963267948966);
        let (r, low) = Self::sum(p, p_low + (a * 6.123233995736766e-17 + a_low * 1.5707963267948966));
        if above { (quarter, -r, -low) } else { (quarter, r, low) }
    }

    fn sin_of_sum(r: f64, low: f64) -> f64 {
        let z = r * r;
        let p = 2.8114572543455206e-15;
        let p = -7.647163731819816e-13 + z * p;
        let p = 1.6059043836821613e-10 + z * p;
        let p = -2.505210838544172e-08 + z * p;
        let p = 2.7557319223985893e-06 + z * p;
        let p = -0.0001984126984126984 + z * p;
        let p = 0.008333333333333333 + z * p;
        let p = -0.16666666666666666 + z * p;
        let series = r * z * p;
        r + (low * (1.0 - 0.5 * z) + series)
    }

    fn cos_of_sum(r: f64, low: f64) -> f64 {
        let z = r * r;
        let h = 0.5 * z;
        let w = 1.0 - h;
        let p = -1.5619206968586225e-16;
        let p = 4.779477332387385e-14 + z * p;
        let p = -1.1470745597729725e-11 + z * p;
        let p = 2.08767569878681e-09 + z * p;
        let p = -2.755731922398589e-07 + z * p;
        let p = 2.48015873015873e-05 + z * p;
        let p = -0.001388888888888889 + z * p;
        let p = 0.041666666666666664 + z * p;
        let series = z * z * p;
        w + (((1.0 - w) - h) + (series - r * low))
    }
}
