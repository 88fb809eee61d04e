// frameworks_test.go runs a Server below the routers and frameworks that Go programs use, as docs/frameworks.md shows it:
// handlers that return while their connections live on, and handlers that stay.

package interop

import (
	"context"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/go-chi/chi/v5"
	chimiddleware "github.com/go-chi/chi/v5/middleware"
	"github.com/gofiber/fiber/v3"
	"github.com/gofiber/fiber/v3/middleware/adaptor"
	labstack "github.com/labstack/echo/v4"
	echomiddleware "github.com/labstack/echo/v4/middleware"
	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttpadaptor"

	"github.com/seed62836080/wsd"
	_ "github.com/seed62836080/wsd/extendedconnect"
	"github.com/seed62836080/wsd/h2"
)

// answerAll sends back what it receives.
func answerAll(conn *wsd.Conn) {
	for m := range conn.Messages() {
		if conn.Send(context.Background(), m) != nil {
			return
		}
	}
}

// leaving is a handler that returns while its connection lives on, staying one that does not.
func leaving() http.Handler { return &wsd.Server{Handler: answerAll} }

func staying() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := wsd.Accept(w, r, nil)
		if err != nil {
			return
		}
		answerAll(conn)
		_ = conn.Close(wsd.StatusNormalClosure, "")
	})
}

// framework serves two handlers at /leaving and /staying on a listener until stop is called.
type framework struct {
	name  string
	http2 bool // it is below net/http
	serve func(l net.Listener, leaving, staying http.Handler) (stop func())
}

// below serves a handler by net/http, for HTTP/1.1 and HTTP/2.
func below(l net.Listener, handler http.Handler) (stop func()) {
	server := &http.Server{Handler: handler, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	wsd.ConfigureHTTP2(server)
	go func() { _ = server.Serve(l) }()
	return func() { _ = server.Close() }
}

var frameworks = []framework{
	{"chi", true, func(l net.Listener, leaving, staying http.Handler) func() {
		r := chi.NewRouter()
		r.Use(chimiddleware.Logger, chimiddleware.Recoverer, chimiddleware.Compress(5))
		r.Get("/leaving", leaving.ServeHTTP)
		r.Get("/staying", staying.ServeHTTP)
		return below(l, r)
	}},
	{"gin", true, func(l net.Listener, leaving, staying http.Handler) func() {
		gin.SetMode(gin.ReleaseMode)
		r := gin.New()
		r.Use(gin.Recovery())
		r.GET("/leaving", gin.WrapH(leaving))
		r.GET("/staying", gin.WrapH(staying))
		return below(l, r)
	}},
	{"echo", true, func(l net.Listener, leaving, staying http.Handler) func() {
		e := labstack.New()
		e.Use(echomiddleware.Recover(), echomiddleware.Gzip())
		e.GET("/leaving", labstack.WrapHandler(leaving))
		e.GET("/staying", labstack.WrapHandler(staying))
		return below(l, e)
	}},
	{"fasthttp", false, func(l net.Listener, leaving, staying http.Handler) func() {
		early, late := fasthttpadaptor.NewFastHTTPHandler(leaving), fasthttpadaptor.NewFastHTTPHandler(staying)
		server := &fasthttp.Server{Handler: func(ctx *fasthttp.RequestCtx) {
			if string(ctx.Path()) == "/leaving" {
				early(ctx)
			} else {
				late(ctx)
			}
		}}
		go func() { _ = server.Serve(l) }()
		return func() { _ = server.Shutdown() }
	}},
	{"fiber", false, func(l net.Listener, leaving, staying http.Handler) func() {
		app := fiber.New()
		app.Get("/leaving", adaptor.HTTPHandler(leaving))
		app.Get("/staying", adaptor.HTTPHandler(staying))
		go func() { _ = app.Listener(l, fiber.ListenConfig{DisableStartupMessage: true}) }()
		return func() { _ = app.Shutdown() }
	}},
}

func TestFrameworks(t *testing.T) {
	for _, f := range frameworks {
		t.Run(f.name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			defer f.serve(l, leaving(), staying())()
			transport := &h2.Transport{Base: &http.Transport{}, UnencryptedHTTP2: true}
			defer func() { require.NoError(t, transport.Close()) }()
			for _, path := range []string{"/leaving", "/staying"} {
				for major, client := range map[int]*http.Client{1: http.DefaultClient, 2: {Transport: transport}} {
					if major == 2 && !f.http2 {
						continue
					}
					conn, resp, err := wsd.Dial(t.Context(), "ws://"+l.Addr().String()+path, &wsd.DialOptions{HTTPClient: client})
					require.NoError(t, err, "HTTP/%d %s", major, path)
					require.Equal(t, major, resp.ProtoMajor)
					for _, text := range []string{"hello", strings.Repeat("long ", 50_000)} {
						require.NoError(t, conn.Send(t.Context(), wsd.Text(text)))
						m, err := conn.Receive(t.Context())
						require.NoError(t, err)
						require.True(t, string(m.Data) == text)
					}
					require.NoError(t, conn.Close(wsd.StatusNormalClosure, ""), "HTTP/%d %s", major, path)
				}
			}
		})
	}
}
