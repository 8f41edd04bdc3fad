"""The numbers behind `vector_math`, for both element types.

Polynomials minimise the largest relative error of the function that they serve (Remez exchange,
1934), computed with 60 digits and rounded to the element's type.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FORMATS", "Format"]


@dataclass(frozen=True, slots=True)
class Format:
    """The numbers of one type; polynomials have the highest coefficient first."""

    mantissa: int  # bits, without the hidden one
    bias: int  # of the exponent
    ln2_high: float  # so short that its product with any exponent is exact
    ln2_low: float
    exp_lowest: float  # the least x whose exponential is normal
    exp_highest: float  # the greatest x whose exponential is finite
    tanh_flat: float  # beyond it tanh rounds to 1
    half_bits: int  # what is left of the mantissa without them has an exact square
    normal_end: float  # beyond it x times the normal distribution's tail is no normal number
    tail_middle: float  # c of `normal_tail`
    exp_tail: tuple[float, ...]  # (e^r - 1 - r) / r^2, for |r| <= log(2) / 2
    log_tail: tuple[float, ...]  # (2 artanh(s) - 2 s) / s^3 in s^2, for |s| <= 1 / 5
    sin_tail: tuple[float, ...]  # (sin(r) - r) / r^3 in r^2, for |r| <= pi / 2
    erf_head: tuple[float, ...]  # erf(x) / x - 1 in x^2, for |x| <= 1 / 2
    # (1 + 3/4 t) e^(t^2 / 2) P(X > t) in (t - c) / (t + c), for 0 <= t <= normal_end and X normal
    normal_tail: tuple[float, ...]


#: By the number of bits of the type.
FORMATS = {
    32: Format(
        mantissa=23,
        bias=127,
        ln2_high=0.693359375,
        ln2_low=-2.1219444005469058e-4,
        exp_lowest=-87.33654022216797,
        exp_highest=88.72283172607422,
        tanh_flat=10.0,
        half_bits=12,
        normal_end=14.4,
        tail_middle=3.5625,
        exp_tail=(0.0013946468, 0.008366611, 0.04166628, 0.16666543, 0.5),
        log_tail=(0.3036246, 0.39957738, 0.6666695),
        sin_tail=(2.6055902e-06, -0.00019809522, 0.008333066, -0.1666666),
        erf_head=(0.0046988833, -0.026748618, 0.11282705, -0.37612602, 0.12837917),
        normal_tail=(
            0.00011522664,
            0.00017344304,
            -0.00094012625,
            -0.0005315348,
            0.008012797,
            -0.017920105,
            0.011911262,
            0.03344659,
            -0.119489625,
            0.38444114,
        ),
    ),
    64: Format(
        mantissa=52,
        bias=1023,
        ln2_high=0.6931471803691238,
        ln2_low=1.9082149292705877e-10,
        exp_lowest=-708.3964185322641,
        exp_highest=709.782712893384,
        tanh_flat=22.0,
        half_bits=27,
        normal_end=38.7,
        tail_middle=6.03125,
        exp_tail=(
            2.5114512157183947e-08,
            2.7626382599033596e-07,
            2.7557227840854718e-06,
            2.4801504310916458e-05,
            0.0001984126990314307,
            0.001388888893248565,
            0.008333333333314548,
            0.041666666666573315,
            0.16666666666666685,
            0.5000000000000006,
        ),
        log_tail=(
            0.1537040563090959,
            0.1524990393769102,
            0.1818637029318711,
            0.22222138154211885,
            0.285714293995453,
            0.39999999996137925,
            0.6666666666667276,
        ),
        sin_tail=(
            2.7210602421982694e-15,
            -7.642980814939031e-13,
            1.605893930459815e-10,
            -2.5052106865004074e-08,
            2.755731921105423e-06,
            -0.00019841269841208746,
            0.008333333333333193,
            -0.16666666666666666,
        ),
        erf_head=(
            1.4657747023499582e-06,
            -1.4839308680967983e-05,
            0.00012053080943919913,
            -0.0008548292631926309,
            0.005223977316127696,
            -0.026866170629475418,
            0.11283791670915368,
            -0.37612638903183365,
            0.12837916709551256,
        ),
        normal_tail=(
            1.174744521941444e-09,
            2.8667965637835155e-09,
            -1.041297880641944e-08,
            -2.1237898208835697e-08,
            9.144006403449504e-08,
            5.0795357377590014e-08,
            -7.622395580450588e-07,
            9.906038906300064e-07,
            4.101156206207569e-06,
            -1.8926707883598247e-05,
            1.9699131785304958e-05,
            0.00010970094352149926,
            -0.0006502077745109344,
            0.0020253100658607468,
            -0.004534948064543563,
            0.007787071310267239,
            -0.01004200638455968,
            0.008000603886004992,
            0.0023908942591827523,
            -0.02402593057732842,
            0.05637552627017076,
            -0.09427549678698008,
            0.3560409766056062,
        ),
    ),
}
