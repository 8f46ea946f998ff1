//! The program as a whole: how it sells in a crowd, and how it starts and ends.

mod crowd;
mod ends;
mod shop;
