package example;

import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.context.annotation.Bean;
import org.springframework.security.config.annotation.web.builders.HttpSecurity;
import org.springframework.security.core.annotation.AuthenticationPrincipal;
import org.springframework.security.oauth2.client.oidc.web.logout.OidcClientInitiatedLogoutSuccessHandler;
import org.springframework.security.oauth2.client.registration.ClientRegistrationRepository;
import org.springframework.security.oauth2.core.oidc.user.OidcUser;
import org.springframework.security.web.SecurityFilterChain;
import org.springframework.security.web.csrf.CsrfToken;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.RestController;
import org.springframework.web.util.HtmlUtils;

/** Scan login for a Spring site. Run: mvn spring-boot:run */
@SpringBootApplication
@RestController
public class Site {
    public static void main(String[] arguments) {
        SpringApplication.run(Site.class, arguments);
    }

    @Bean
    SecurityFilterChain security(HttpSecurity http, ClientRegistrationRepository clients) {
        var signOut = new OidcClientInitiatedLogoutSuccessHandler(clients);
        signOut.setPostLogoutRedirectUri("{baseUrl}/");
        return http
            .authorizeHttpRequests(requests -> requests.anyRequest().authenticated())
            .oauth2Login(login -> login.redirectionEndpoint(callback -> callback.baseUri("/callback")))
            .logout(logout -> logout.logoutSuccessHandler(signOut))
            .build();
    }

    /** user.getSubject() is who it is; it never changes. */
    @GetMapping(path = "/", produces = "text/html; charset=utf-8")
    String home(@AuthenticationPrincipal OidcUser user, CsrfToken csrf) {
        return """
            Hello %s<form action="/logout" method="post">
            <input type="hidden" name="%s" value="%s"><button>Sign out</button></form>
            """.formatted(HtmlUtils.htmlEscape(user.getFullName()), csrf.getParameterName(), csrf.getToken());
    }
}
