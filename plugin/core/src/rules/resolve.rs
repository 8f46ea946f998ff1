//! From the pricing file to resolved routes: inheritance, assets, prices, and what is skipped and why.
