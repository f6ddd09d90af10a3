//! The body of a form.

use std::{future::poll_fn, pin::Pin};

use hyper::{
    Request, StatusCode,
    body::{Body as _, Incoming},
    header::CONTENT_TYPE,
};

use super::{form::Fields, notice};
use crate::web::answer::Answer;

/// The longest form, in bytes: a name, a password and the page to show next.
const MAX_FORM: usize = 8 * 1024;

/// The fields of a form; or the answer to a request that is not a valid one.
pub(super) async fn fields(request: Request<Incoming>) -> Result<Fields, Answer> {
    let content_type = request
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let content_type = content_type
        .and_then(|value| value.split(';').next())
        .unwrap_or_default();
    if !content_type
        .trim()
        .eq_ignore_ascii_case("application/x-www-form-urlencoded")
    {
        return Err(notice::answer(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            &notice::no_form(),
        ));
    }
    let mut body = request.into_body();
    if body.size_hint().lower() > MAX_FORM as u64 {
        return Err(notice::answer(StatusCode::PAYLOAD_TOO_LARGE, &notice::no_form()));
    }
    let mut bytes = zeroize::Zeroizing::new(Vec::with_capacity(MAX_FORM));
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|_| notice::answer(StatusCode::BAD_REQUEST, &notice::no_form()))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > MAX_FORM {
            return Err(notice::answer(StatusCode::PAYLOAD_TOO_LARGE, &notice::no_form()));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Fields::read(&String::from_utf8_lossy(&bytes)))
}
