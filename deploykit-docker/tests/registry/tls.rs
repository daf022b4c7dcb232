//! A registry whose certificate an authority of our own has signed.

use deploykit_core::{ErrorKind, Registry};

use crate::world::{Stand, World};

/// An authority's certificate, and one that it signed for 127.0.0.1 with its key; all PEM.
pub(crate) struct Authority {
    pub(crate) pem: String,
    pub(crate) certificate: rcgen::Certificate,
    pub(crate) key: rcgen::KeyPair,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "authority of a test");
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = rcgen::Issuer::new(params, key);
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        Self { pem, certificate, key }
    }
}

fn encrypted(name: &'static str, authority: &Authority) -> Stand {
    Stand::new(name)
        .file("certificate.pem", authority.certificate.pem())
        .file("key.pem", authority.key.serialize_pem())
        .env("HTTP_TLS_CERTIFICATE", "/files/certificate.pem")
        .env("HTTP_TLS_KEY", "/files/key.pem")
}

#[tokio::test]
async fn an_authority_that_was_given_is_trusted() {
    let authority = Authority::new();
    let stand = encrypted("tls", &authority);
    stand
        .run(async move |world: World| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), &authority.pem).unwrap();
            let registry =
                world.directly().with_authority_file(&world.registry, file.path()).unwrap();
            let (publish, _) = world.publish(&["1"]);
            let pinned = registry.publish(&publish).await.unwrap();
            let resolved = registry.resolve(&world.image("team/web:1")).await.unwrap();
            assert_eq!(resolved.digest, pinned.digest);
        })
        .await;
}

#[tokio::test]
async fn a_certificate_of_somebody_else_is_refused_with_the_way_out() {
    let stand = encrypted("untrusted", &Authority::new());
    stand
        .run(async |world: World| {
            let other = Authority::new().pem;
            let registry = world.directly().with_authority(&world.registry, other).unwrap();
            let (publish, _) = world.publish(&["1"]);
            let error = registry.publish(&publish).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.report());
            assert!(error.message().contains("not trusted"), "{}", error.report());
            assert!(error.hint().unwrap().contains("with_authority"), "{error}");
            assert!(!error.is_temporary(), "it is not tried again");
        })
        .await;
}
