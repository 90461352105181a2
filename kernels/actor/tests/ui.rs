//! What users are told about text that cannot run. Expected messages are made by our macros, but for those about matches and names of variants,
//! which are rustc's; `TRYBUILD=overwrite` writes them anew.

#[test]
fn errors_stand_at_the_users_text_and_say_what_to_write_instead() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
