//! What users are told about text that cannot run. Every expected message is made by our macros; `TRYBUILD=overwrite` writes them
//! anew.

#[test]
fn errors_stand_at_the_users_text_and_say_what_to_write_instead() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
