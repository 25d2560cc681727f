//! Nothing here: the tests are main.rs and tidy.rs.
